"""Fits bridges on a frozen model's own states: `pathgen bridge`."""
