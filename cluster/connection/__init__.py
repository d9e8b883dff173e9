"""Connections to a Ray cluster, in bounded time."""
