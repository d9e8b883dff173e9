"""Errors that a command prints in one line, each with the command's exit code."""

from __future__ import annotations

import signal


class CommandError(Exception):
    """A command failed (exit code 1). The text is one line: what failed, where, and how to fix it."""

    exit_code = 1


class UsageError(CommandError):
    """Wrong use or bad input (exit code 2)."""

    exit_code = 2


class Interrupted(CommandError):
    """Ctrl-C, or SIGTERM (exit code 128 + the signal's number)."""

    def __init__(self, text: str, number: int = signal.SIGINT):
        super().__init__(text)
        self.exit_code = 128 + number


class ClusterError(CommandError):
    """Ray cannot be reached, or a fleet cannot continue."""
