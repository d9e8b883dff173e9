"""Named points at which an environment variable can cause a failure, to test crash safety.

`LAYERPATHS_FAULT=POINT:N:ACTION` acts on the N-th passing of POINT in this process, `N+` also on all later ones.
ACTION is `kill` (SIGKILL of this process), `hang` (the thread sleeps for ever), `enospc` (disk full), `eio`
(input/output error) or `raise` (an unforeseen exception).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter

VARIABLE = "LAYERPATHS_FAULT"
_passings: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Fail here if the environment says so: OSError, RuntimeError for `raise`, ValueError for an unknown action."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, nth, action = wanted.split(":")
    if name != point:
        return
    _passings[name] += 1
    first = int(nth.removesuffix("+"))
    if _passings[name] < first or (_passings[name] > first and not nth.endswith("+")):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "hang":
        time.sleep(1e6)
    elif action in ("enospc", "eio"):
        code = getattr(errno, action.upper())
        raise OSError(code, os.strerror(code))
    elif action == "raise":
        raise RuntimeError(f"fault injected at {name}")
    else:
        raise ValueError(f"{VARIABLE} knows kill, hang, enospc, eio and raise; got {action!r}")
