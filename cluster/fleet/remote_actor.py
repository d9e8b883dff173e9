"""One actor as its fleet sees it: the open calls, and when its work last progressed."""

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
        writer: its id, never reused.
        handle: the Ray actor.
        calls: references of the calls that have no answer yet.
        ready: whether it has answered a poll.
        room: items that it can take, by its last report.
        moved_at: when its work last progressed, or when it last had no work.
        drain_by: deadline of its drain; None if it is not draining.
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
        """Request a report."""
        self.calls.append(self.handle.poll.remote(wait_s))

    def extend(self, items: list[Item]) -> None:
        """Send items."""
        self.calls.append(self.handle.extend.remote(items))

    def drain(self, bound_s: float) -> float:
        """Request that it commits everything within `bound_s` seconds; return the deadline."""
        self.calls.append(self.handle.drain.remote())
        self.drain_by = time.monotonic() + bound_s
        return self.drain_by

    def hear(self, report: Report, *, has_work: bool) -> None:
        """Store a report; `has_work` is whether the actor holds unfinished items."""
        if report.active:
            self.moved_at = time.monotonic() - max(report.active.values())
        elif report.finished or not has_work or not self.ready:
            self.moved_at = time.monotonic()
        self.ready = True
        self.room = report.room
        self.counters = report.counters

    def kill(self) -> Any:
        """End its process; return a reference that Ray answers when the process has ended."""
        import ray

        ray.kill(self.handle)
        return self.handle.poll.remote(0.0)
