"""Bridges: affine maps that run where layers are skipped."""
