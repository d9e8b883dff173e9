"""Processes that are known by pid and start time, as a pid alone may have another owner by now."""

from __future__ import annotations

import psutil

START_TOLERANCE_S = 5.0
"""Start times come from the wall clock, which may be adjusted; a pid is not reused within seconds of it."""


def same_process(pid: int, start_s: float) -> psutil.Process | None:
    """The process that started then, None if it is gone or only waits for its parent to notice.

    Args:
        pid: of the process.
        start_s: when it started, in seconds since the epoch.
    """
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - start_s) > START_TOLERANCE_S or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        pass  # of another user, so nobody can tell: it counts as alive
    return process
