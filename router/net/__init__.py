"""A router in memory: its config, its modules, the policy it acts by."""
