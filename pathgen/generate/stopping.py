"""Ctrl-C and SIGTERM during a run: the first lets it end in good order, a second ends it at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.program.errors import Interrupted

SHORT_GRACE_S = 2.0
"""Time for actors to commit after a SIGTERM: a Ray job may be killed 3 s after it."""
INTERRUPTED = "interrupted: finished work is kept; the same command resumes"


class Stopping:
    """Whether a run must stop, and because of which signal; `tell` shows one line to the user.

    Attributes:
        event: set once the run must wind up.
        number: of the first signal; None before it.
        stop_by: deadline for actors to commit, in `time.monotonic()` seconds.
        can_wind_up: whether there are actors with work to commit; without them the first signal too ends the run
            at once.
    """

    def __init__(self, tell: Callable[[str], None]):
        self.event = threading.Event()
        self.number: int | None = None
        self.stop_by = math.inf
        self.can_wind_up = False
        self._tell = tell

    def wind_up(self, why: str) -> None:
        """End the run in good order and show why. Actors get `SHORT_GRACE_S`; after Ctrl-C as long as they need."""
        if self.number != signal.SIGINT:
            self.stop_by = time.monotonic() + SHORT_GRACE_S
        self.event.set()
        self._tell(f"stopping: {why}")

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle the signals within a `with` block.

        Raises:
            Interrupted: a signal ended the run at once.
        """
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(INTERRUPTED, self.number or signal.SIGINT) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        second = self.number is not None
        self.number = self.number or number
        if second or not self.can_wind_up:
            raise KeyboardInterrupt
        self.wind_up("committing what is finished (again to stop at once)")
