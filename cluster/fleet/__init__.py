"""Replaceable actors that work through items, even if single actors die."""
