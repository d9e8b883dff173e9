"""Processes identified by pid and start time, because a pid may be reused."""

from __future__ import annotations

import psutil

START_TOLERANCE_S = 5.0
"""Start times come from the wall clock, which may be adjusted; a pid is not reused within this time."""


def same_process(pid: int, start_s: float) -> psutil.Process | None:
    """The process of this pid and start time (seconds since the epoch); None if it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - start_s) > START_TOLERANCE_S or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        pass  # it belongs to another user, so its state is unknown: it counts as alive
    return process
