"""A router on disk and on the hub."""
