"""What the scripts share: measuring, killable runs, stored scores, statistics."""
