"""Base class of a fleet's actor: a thread that works in rounds, and the short calls by which a fleet drives it."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .protocol import Item, Report

IDLE_S = 1.0
"""Interval of rounds while there is no work."""


class WorkThread(ABC):
    """A fleet's actor: `extend`, `poll` and `drain` are short calls; a subclass defines one round of work.

    The abstract methods run in the thread. The fleet's next call raises their exceptions (a waiting `poll` at once),
    and the fleet then replaces the actor. Other threads read `held` and the attributes, so these must always be valid.
    An actor has two threads for calls, so that `drain` can run while a `poll` waits. The constructor starts the thread,
    so a subclass calls it last.

    Args:
        capacity: items held at a time, waiting items included.
        is_fatal: whether an exception leaves the whole process unusable; the process then ends and is replaced.

    Attributes:
        moved_at: when the work on each active item last progressed, in `time.monotonic()` seconds.
        counters: totals since the actor began.
    """

    moved_at: Mapping[str, float]
    counters: Mapping[str, float]

    def __init__(self, capacity: int, is_fatal: Callable[[BaseException], bool]):
        self._capacity = capacity
        self._is_fatal = is_fatal
        self._news = threading.Condition()  # guards all below
        self._fresh: list[Item] = []
        self._report = Report(room=0)
        self._draining = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="work", daemon=True)
        self._thread.start()

    @property
    @abstractmethod
    def held(self) -> int:
        """Number of accepted items that are not finished."""

    @abstractmethod
    def take_up(self, item: Any) -> None:
        """Accept one item."""

    @abstractmethod
    def step(self) -> None:
        """Do one round of work, if there is any, and commits that are due; publish the results."""

    def commit(self) -> Iterable[str]:
        """Commit finished items now; return the keys that became durable.

        Called from another thread, possibly during a round, and again when an error ends the work.
        """
        return ()

    @abstractmethod
    def close(self) -> Iterable[str]:
        """Commit finished items and store the progress of the others; return the keys that became durable."""

    def extend(self, items: list[Item]) -> None:
        """Add items to the backlog: at most `room` of the last report, before the next `poll`."""
        with self._news:
            self._raise_error()
            self._fresh += items
            self._news.notify_all()

    def poll(self, wait_s: float) -> Report:
        """Report at once if an item finished or became durable, else after `wait_s` seconds.

        `room` alone is no reason to return early: the fleet may have no items left.
        """
        with self._news:
            self._news.wait_for(
                lambda: self._report.finished or self._report.durable or self._draining or self._error is not None,
                timeout=wait_s,
            )
            # Finished items are reported before an error, because their commit may be what failed.
            if not (self._report.finished or self._report.durable):
                self._raise_error()
            return self._take_report()

    def drain(self) -> Report:
        """The last call: commit at once, let the current round end, close, and stop working.

        The report leaves out active items. A round beyond the fleet's deadline ends when the fleet kills the actor.
        """
        with self._news:
            self._draining = True
            self._news.notify_all()
        self.publish(durable=self.commit())
        self._thread.join()
        with self._news:
            self._raise_error()
            return self._take_report()

    def publish(self, *, finished: Iterable[str] = (), failed: Iterable[str] = (), durable: Iterable[str] = ()) -> None:
        """Add keys to the next report."""
        with self._news:
            self._report = Report(
                room=0,
                finished=(*self._report.finished, *finished),
                failed=(*self._report.failed, *failed),
                durable=(*self._report.durable, *durable),
            )
            self._news.notify_all()

    def _take_report(self) -> Report:
        now = time.monotonic()
        news, self._report = self._report, Report(room=0)
        return replace(
            news,
            room=max(0, self._capacity - self.held - len(self._fresh)),
            active={key: now - moved_at for key, moved_at in dict(self.moved_at).items()},
            counters=dict(self.counters),
        )

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._round()
            self.publish(durable=self.close())
        except BaseException as error:  # the fleet must receive any error
            with suppress(Exception):  # the commit itself may be what failed
                self.publish(durable=self.commit())
            if self._is_fatal(error):
                os._exit(1)
            with self._news:
                self._error = error
                self._news.notify_all()

    def _wait_for_work(self) -> bool:
        """Wait a moment if there is nothing to do; False once draining."""
        with self._news:
            if not (self._fresh or self.held or self._draining):
                self._news.wait(timeout=IDLE_S)
            return not self._draining

    def _round(self) -> None:
        while self._fresh and not self._draining:
            self.take_up(self._fresh[0])  # until this returns, the item counts as fresh
            with self._news:
                del self._fresh[0]
        if not self._draining:
            self.step()
