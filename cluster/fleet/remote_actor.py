"""One actor as its fleet sees it: the calls under way, and when its work last moved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .protocol import Item, Report

if TYPE_CHECKING:
    import ray


@dataclass(slots=True)
class RemoteActor:
    """An actor of the fleet. All times are `time.monotonic()` seconds.

    Attributes:
        writer: the id under which it works; never used twice.
        handle: the Ray actor.
        calls: refs of the calls whose answers are awaited.
        ready: it has answered a poll.
        room: items it would take, by its last report.
        counters: totals of its last report.
        born_at: when it was made.
        moved_at: when its work last moved, or when it last had none.
        drain_by: until when it must have drained; None if it is not draining.
    """

    writer: str
    handle: Any
    calls: list[ray.ObjectRef] = field(default_factory=list)
    ready: bool = False
    room: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    born_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)
    drain_by: float | None = None

    def poll(self, wait_s: float) -> None:
        """Asks for news."""
        self.calls.append(self.handle.poll.remote(wait_s))

    def extend(self, items: list[Item]) -> None:
        """Hands over items."""
        self.calls.append(self.handle.extend.remote(items))

    def drain(self, bound_s: float) -> float:
        """Asks it to commit everything within `bound_s`; returns until when."""
        self.calls.append(self.handle.drain.remote())
        self.drain_by = time.monotonic() + bound_s
        return self.drain_by

    def hear(self, report: Report, *, has_work: bool) -> None:
        """Takes note of a report; `has_work`: it still holds something unfinished."""
        if report.active:
            self.moved_at = time.monotonic() - max(report.active.values())
        elif report.finished or not has_work or not self.ready:
            self.moved_at = time.monotonic()
        self.ready = True
        self.room = report.room
        self.counters = report.counters

    def kill(self) -> Any:
        """Ends its process; a reference that is answered once Ray knows that it is gone."""
        import ray

        ray.kill(self.handle)
        return self.handle.poll.remote(0.0)
