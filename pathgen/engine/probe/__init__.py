"""What is tried on a model when it is wrapped: its layers' arguments, its positions, its cache, and its restrictions."""
