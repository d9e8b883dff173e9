"""The errors that users see, each with its exit code, and helpers for their messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cluster.program.errors import CommandError

MAX_QUOTED = 300
"""How many characters of a foreign text a message repeats."""
NAMES_SHOWN = 5


class PathgenError(CommandError):
    """The command failed (exit code 1)."""


class StoreOutage(PathgenError):
    """An object store is busy or out of reach; a later try may succeed."""


class InputError(PathgenError):
    """Wrong use or bad input; found before any model is loaded (exit code 2)."""

    exit_code = 2


class ArtefactError(PathgenError):
    """An incompatible or corrupt artefact: another run's folder, a newer schema (exit code 4)."""

    exit_code = 4


def one_line(text: object) -> str:
    """A text of a library or a user, shortened so that it fits into a one-line message."""
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}…"


def some(names: Sequence[str]) -> str:
    """The first NAMES_SHOWN names, with an ellipsis if there are more."""
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")


@contextmanager
def memory_told(smaller: str) -> Iterator[None]:
    """Turn a device's OutOfMemoryError in the block into a PathgenError; `smaller` names options that need less."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PathgenError(f"out of memory: {one_line(error).removesuffix('.')}; give {smaller}") from error
