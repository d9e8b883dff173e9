"""What is tried on a model when it is wrapped: its layers' arguments, positions, cache, and restrictions."""
