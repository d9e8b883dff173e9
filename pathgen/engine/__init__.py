"""Runs a frozen model along layer paths: exactly, in batches, with shared prefixes."""
