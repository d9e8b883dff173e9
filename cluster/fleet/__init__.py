"""Replaceable actors that work through items, whatever becomes of single actors."""
