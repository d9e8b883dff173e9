"""NAME=VALUE entries of command lines."""

from __future__ import annotations

from collections.abc import Sequence

from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath


def named(entries: Sequence[str]) -> dict[str, str]:
    """The values by name; an entry without a name is its own."""
    return {name: value or name for name, _, value in (entry.partition("=") for entry in entries)}


def named_paths(entries: Sequence[str]) -> dict[str, LayerPath]:
    """The paths by name.

    Raises:
        InputError: a value is no path.
    """
    paths = {}
    for name, text in named(entries).items():
        try:
            paths[name] = LayerPath.parse(text)
        except ValueError as error:
            raise InputError(f"path {name}: {error}") from error
    return paths
