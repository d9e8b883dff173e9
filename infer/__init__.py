"""Routed inference and its benchmark. Its commands come with the inference stage."""
