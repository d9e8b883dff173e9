"""Training all heads of a router at once, resumable."""
