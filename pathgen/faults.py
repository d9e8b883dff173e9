"""Named points at which the environment may ask for a failure, so that crash safety can be tested for real.

`LAYERPATHS_FAULT=POINT:N:ACTION` acts on the N-th passing of POINT in this process, `N+` on each from then on. ACTION
is `kill` (SIGKILL of the own process), `hang` (the thread sleeps for ever), `enospc` (disk full), `eio` (input/output
error) or `raise` (an unforeseen exception).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter

VARIABLE = "LAYERPATHS_FAULT"

_FOR_EVER_S = 1e6
_passings: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Fail here if the environment asks for it; nothing otherwise.

    Raises:
        OSError: actions `enospc` and `eio`.
        RuntimeError: action `raise`.
        ValueError: an unknown action.
    """
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
        time.sleep(_FOR_EVER_S)
    elif action in ("enospc", "eio"):
        code = errno.ENOSPC if action == "enospc" else errno.EIO
        raise OSError(code, os.strerror(code))
    elif action == "raise":
        raise RuntimeError(f"fault injected at {name}")
    else:
        raise ValueError(f"{VARIABLE} knows kill, hang, enospc, eio and raise; got {action!r}")
