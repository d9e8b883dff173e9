"""Scripts behind every figure of the README: `python -m benchmarks.ROOM.SCRIPT` from the repository root."""
