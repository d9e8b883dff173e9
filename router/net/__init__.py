"""A router in memory: its config, its modules, and its policy."""
