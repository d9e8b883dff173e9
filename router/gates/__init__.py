"""Gates trained on the task's own loss, and their rounding to paths."""
