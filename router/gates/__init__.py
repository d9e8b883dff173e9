"""Gates trained on the task's loss, and their rounding to paths."""
