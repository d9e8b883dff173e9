"""The few errors a person meets at the terminal, each with the exit code that contracts promise."""

from __future__ import annotations

from cluster.errors import CommandError


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
