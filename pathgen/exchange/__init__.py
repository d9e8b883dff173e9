"""Runs to and from other programs' file formats."""
