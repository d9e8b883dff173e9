"""Paths as the benchmarks' command lines and files write them: one digit a layer, the times it runs."""

from __future__ import annotations

from pathgen.paths.layer_path import LayerPath


def from_digits(digits: str) -> LayerPath:
    """The path of such a text.

    Raises:
        ValueError: it is empty or holds anything but 0, 1 and 2.
    """
    return LayerPath(int(digit) for digit in digits)


def to_digits(path: LayerPath) -> str:
    """The text of a path."""
    return "".join(map(str, path))
