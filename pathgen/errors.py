"""The few errors a person meets at the terminal, each with the exit code that contracts promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cluster.program.errors import CommandError

MAX_QUOTED = 300
"""Characters of another's text that a message repeats."""
NAMES_SHOWN = 5


class PathgenError(CommandError):
    """The job failed (exit code 1)."""


class StoreOutage(PathgenError):
    """An object store is busy or out of reach: the same may succeed later."""


class InputError(PathgenError):
    """Wrong use or bad input, found before any model is loaded (exit code 2)."""

    exit_code = 2


class ArtefactError(PathgenError):
    """An incompatible or corrupt artefact: another run's folder, a newer schema (exit code 4)."""

    exit_code = 4


def one_line(text: object) -> str:
    """What another library says, or a name that a person gave, as part of a line."""
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}…"


def some(names: Sequence[str]) -> str:
    """The first NAMES_SHOWN of names, and whether there are more."""
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")


@contextmanager
def memory_told(smaller: str) -> Iterator[None]:
    """Within the block, a device that runs out of memory is one line.

    Args:
        smaller: what to give to need less.

    Raises:
        PathgenError: it has run out.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PathgenError(f"out of memory: {one_line(error).removesuffix('.')}; give {smaller}") from error
