"""Checkpoint folders: where they lie, what they hold, how they load. No forward pass."""
