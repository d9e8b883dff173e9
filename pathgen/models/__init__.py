"""Model folders: how they are found, read and loaded. No forward pass."""
