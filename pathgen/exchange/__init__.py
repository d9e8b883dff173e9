"""Exports and imports runs in the file formats of other programs."""
