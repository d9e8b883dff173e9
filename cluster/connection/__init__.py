"""How a program reaches a Ray cluster, in bounded time."""
