"""The frame of a fleet's actor: a thread that works round by round, and the short calls by which a fleet drives it."""

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
"""A thread without work runs a round this often all the same."""


class WorkThread(ABC):
    """What a fleet's actor is: `extend`, `poll` and `drain` are short calls, a subclass says what a round of work is.

    The abstract methods run in the thread. An exception of theirs is raised by the fleet's next call (by a waiting
    `poll` at once); the fleet then replaces the actor. `held` and the attributes are read from other threads
    meanwhile, so they must be valid at any moment. An actor has two threads for calls, so that `drain` overtakes a
    `poll` that waits.

    Args:
        capacity: items held at a time, those waiting included.
        is_fatal: whether an exception leaves the whole process useless; it ends then, so that a new one is made.

    Attributes:
        moved_at: when the work on each item under way last moved, in `time.monotonic()` seconds.
        counters: totals since the actor began.

    The constructor starts the thread: a subclass calls it last, when all is there that its work needs.
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
        """Items taken up and not finished."""

    @abstractmethod
    def take_up(self, item: Any) -> None:
        """Accept one item."""

    @abstractmethod
    def step(self) -> None:
        """One round of work, if there is any, and commits that are due; it publishes what came of it."""

    def commit(self) -> Iterable[str]:
        """Commit what is finished, now: the keys that became durable.

        Called from another thread while a round may be under way, and once more when an error ends the work.
        """
        return ()

    @abstractmethod
    def close(self) -> Iterable[str]:
        """Commit what is finished and keep what is worth keeping of the rest; the keys that became durable."""

    def extend(self, items: list[Item]) -> None:
        """Take items into the backlog: at most `room` of the last report, before the next `poll`."""
        with self._news:
            self._raise_error()
            self._fresh += items
            self._news.notify_all()

    def poll(self, wait_s: float) -> Report:
        """News: at once if an item finished or became durable, else after `wait_s`.

        `room` alone is no reason to return early: the fleet may have nothing to give.
        """
        with self._news:
            self._news.wait_for(
                lambda: self._report.finished or self._report.durable or self._draining or self._error is not None,
                timeout=wait_s,
            )
            # Before an error what was finished is told: it may be the commit of just that which failed.
            if not (self._report.finished or self._report.durable):
                self._raise_error()
            return self._take_report()

    def drain(self) -> Report:
        """The last call: commit at once, let the round under way end, close, and stop working.

        What is still active is left out of the report. The round may last longer than the fleet's bound, and the
        actor is killed then.
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
        """The thread: rounds until drained."""
        try:
            while self._wait_for_work():
                self._round()
            self.publish(durable=self.close())
        except BaseException as error:  # whatever it is, the fleet must hear of it
            with suppress(Exception):  # it may be the commit itself that failed
                self.publish(durable=self.commit())
            if self._is_fatal(error):
                os._exit(1)
            with self._news:
                self._error = error
                self._news.notify_all()

    def _wait_for_work(self) -> bool:
        """Sleep a little if there is nothing to do; False once draining."""
        with self._news:
            if not (self._fresh or self.held or self._draining):
                self._news.wait(timeout=IDLE_S)
            return not self._draining

    def _round(self) -> None:
        while self._fresh and not self._draining:
            self.take_up(self._fresh[0])  # which may take a while, and until then it is among the fresh
            with self._news:
                del self._fresh[0]
        if not self._draining:
            self.step()
