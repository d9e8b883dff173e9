"""The cause of a failed call to Ray, in one line."""

from __future__ import annotations

import re

_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*: ")
_ADDRESS = re.compile(r"\bip=([\w.:]+)")


def is_lost(error: BaseException) -> bool:
    """Whether the actor's node is lost or unreachable, not only the actor's process."""
    from ray.exceptions import ActorUnavailableError

    return isinstance(error, ActorUnavailableError) or "its node has died" in str(error)


def cause_of(error: BaseException) -> str:
    """One line with the innermost exception, or the way the process ended, and the node's address."""
    from ray.exceptions import RayError

    address = _ADDRESS.search(str(error))
    where = f" (on {address[1]})" if address and not address[1].startswith("127.") else ""
    while isinstance(inner := getattr(error, "cause", None) or error.__cause__, BaseException):
        error = inner
    text = str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    if isinstance(error, RayError) or "Traceback (most recent call last)" in text:
        # The text quotes a traceback. Its last line may continue a message, so look for the exception's name.
        line = ([line for line in lines if _ERROR_LINE.match(line)] or lines or [""])[-1]
    else:
        line = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return line.split(" Some common causes")[0].strip()[:300] + where
