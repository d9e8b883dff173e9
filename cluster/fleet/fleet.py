"""A fleet of replaceable Ray actors that works through a stream of items, even if single actors die."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..program.causes import cause_of, is_lost
from ..program.errors import ClusterError
from .leases import MAX_STRIKES, Leases
from .protocol import Item, Progress, Recovered, Report
from .remote_actor import RemoteActor
from .roster import Roster

logger = logging.getLogger(__name__)

_TICK_S = 0.2
_PROGRESS_EVERY_S = 1.0
_RESIZE_EVERY_S = 5.0
_MAX_PAUSE_S = 60.0
_DRAIN_TIMEOUT_S = 120.0
"""Time for an actor to commit its items at the end."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Size and timeouts of a fleet.

    Attributes:
        num_actors: actors at a time, at least one, and fewer for fewer items. A function is called every few seconds,
            so that the fleet follows its cluster. Actors that Ray cannot place yet wait.
        item_timeout_s: an actor whose work has not progressed for this time is killed.
        start_timeout_s: an actor that is not ready after this time is replaced. If no actor is ready for this time, the
            run ends.
        stop_by: returns the deadline of drains after an interruption, in `time.monotonic()` seconds; called when the
            interruption comes, because a kill may follow soon.
        poll_s: how long a poll waits for news.
        resources: Ray resources of one actor (`{"CPU": 4}`), for the message when none starts.
    """

    num_actors: int | Callable[[], int] = 1
    item_timeout_s: float = 600.0
    start_timeout_s: float = 300.0
    stop_by: Callable[[], float] = lambda: math.inf
    poll_s: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)


class Fleet:
    """Runs items on actors that answer the calls of `WorkThread`, and replaces actors that die.

    The driver counts each item once. An actor that was given up may still be writing, so results must carry its writer
    id, or be checked against a lock of the owner. A fleet serves one `run`.

    Args:
        make_actor: makes a Ray actor (`max_restarts=0, max_task_retries=0, max_concurrency=2`) that writes under the
            given new id. It counts as started when it answers its first poll.
        settings: size and timeouts.
        recover: called after a death with the dead actor's writer id and its items that were not reported durable,
            before any of them is leased again.
        on_failed: called with an item that is given up, and the cause: its actor died `MAX_STRIKES` times with no other
            item in flight.
        stop: when it is set, actors drain and `run` returns.
    """

    def __init__(
        self,
        make_actor: Callable[[str], Any],
        settings: FleetSettings,
        *,
        recover: Callable[[str, list[Any]], Recovered],
        on_failed: Callable[[Any, str], None],
        stop: threading.Event,
    ):
        self._settings = settings
        self._recover = recover
        self._on_failed = on_failed
        self._stop = stop
        self._roster = Roster(make_actor)
        self._error: Exception | None = None
        self._total = 0
        self._ready_at: float | None = None
        self._any_ready_at = time.monotonic()  # before the first is ready: when the fleet was made
        self._failed_starts = 0
        self._start_after = -math.inf
        self._last_cause = ""
        self._reported_at = 0.0
        self._size = 0
        self._sized_at = -math.inf

    def start(self, most: int) -> None:
        """Make actors for at most `most` items before the items are known, so that they load meanwhile."""
        self._resize()
        for _ in range(min(self._size, most)):
            self._roster.hire()

    def run(self, items: Iterable[Item], total: int, on_progress: Callable[[Progress], object]) -> Progress:
        """Work through the items; return when all are durable or given up, or after `stop`.

        Args:
            items: read lazily, a little ahead of the actors; keys are unique.
            total: number of items, for progress.
            on_progress: called about once a second and at the end.

        Raises:
            ClusterError: no actor starts in time, or actors die repeatedly without finishing anything.
            Exception: raised by the items or the owner's callbacks. Living actors are always drained first.
        """
        self._leases = Leases(items)
        self._total = total
        try:
            while self._turn(on_progress):
                pass
            if self._error:
                raise self._error
            progress = self._progress()
            on_progress(progress)
            return progress
        finally:
            for actor in self._roster:
                self._roster.dismiss(actor)
            if not self._stop.is_set():  # after a stop there may be no time, and nothing cleans up after them
                self._roster.await_dismissed()

    def _turn(self, on_progress: Callable[[Progress], object]) -> bool:
        """One turn of the loop; False once no actor is left."""
        try:
            if self._ending:
                self._wind_up()
            else:
                self._hire()
            if not self._roster:
                return self._waits_for_restart()
            self._listen()
            self._watch_clocks()
            if self._error is None and time.monotonic() - self._reported_at >= _PROGRESS_EVERY_S:
                self._reported_at = time.monotonic()
                on_progress(self._progress())
        except Exception as error:
            if self._error is not None:
                raise
            self._error = error
        return True

    def _waits_for_restart(self) -> bool:
        """Wait a moment if new actors follow after a pause; return whether they do."""
        waits = not self._ending and time.monotonic() < self._start_after and self._leases.waiting(1) > 0
        if waits:
            self._stop.wait(_TICK_S)
        return waits

    @property
    def _ending(self) -> bool:
        return self._stop.is_set() or self._error is not None

    def _hire(self) -> None:
        """Make actors while more items are queued than actors are idle, up to the fleet's size.

        Actors that are still starting are dismissed if fewer items are queued. After failed starts it pauses for
        longer and longer, because a broken node is free, so Ray places new actors there first.
        """
        self._resize()
        queued = self._leases.waiting(self._size)
        starting = [actor for actor in self._roster if not actor.ready]
        idle = sum(
            actor.ready and actor.drain_by is None and not self._leases.unfinished(actor.writer)
            for actor in self._roster
        )
        wanted = max(0, queued - idle)
        for actor in starting[wanted:]:
            self._roster.dismiss(actor)
        if time.monotonic() >= self._start_after:
            for _ in range(min(wanted - len(starting), self._size - len(self._roster))):
                self._roster.hire()

    def _resize(self) -> None:
        """Update the fleet's size if it is time; surplus actors keep working until they die or drain."""
        now, size = time.monotonic(), self._settings.num_actors
        if now - self._sized_at >= _RESIZE_EVERY_S:
            self._sized_at = now
            self._size = max(1, size() if callable(size) else size)

    def _wind_up(self) -> None:
        """Drain the actors that are ready and dismiss the others; with the deadline `stop_by` once `stop` is set."""
        for actor in self._roster:
            if not actor.ready:
                self._roster.dismiss(actor)
                continue
            drain_by = actor.drain_by or actor.drain(_DRAIN_TIMEOUT_S)
            if self._stop.is_set():
                actor.drain_by = min(drain_by, self._settings.stop_by())

    def _listen(self) -> None:
        """Wait a moment for an answer of any actor, and handle all answers."""
        import ray

        callers = {ref: actor for actor in self._roster for ref in actor.calls}
        ray.wait(list(callers), num_returns=1, timeout=_TICK_S)
        answered, _ = ray.wait(list(callers), num_returns=len(callers), timeout=0)
        for ref in answered:
            actor = callers[ref]
            if actor not in self._roster:
                continue
            actor.calls.remove(ref)
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayError as error:
                broken = isinstance(error, ray.exceptions.RayTaskError)
                self._bury(actor, cause_of(error), broken=broken, lost=is_lost(error))
                continue
            if isinstance(answer, Report):
                if not actor.ready:
                    self._failed_starts = 0
                self._ready_at = self._ready_at or time.monotonic()
                self._leases.record(actor.writer, answer)
                actor.hear(answer, has_work=bool(self._leases.unfinished(actor.writer)))
            if not actor.calls:
                self._continue(actor)

    def _continue(self, actor: RemoteActor) -> None:
        """Send items to an actor that has answered all calls, or let it end if no items are left for it."""
        if actor.drain_by is not None:
            if self._leases.held(actor.writer) and not self._ending:
                self._bury(actor, "it drained, and left finished items uncommitted", broken=True)
            else:
                self._roster.dismiss(actor)
            return
        # Near the end no actor takes more than its share; otherwise the others would end and leave it the rest.
        share = math.ceil(self._leases.waiting(self._size * actor.room) / self._size)
        items = self._leases.take(actor.writer, min(actor.room, share))
        if items:
            actor.extend(items)
        elif not self._leases.unfinished(actor.writer) and not self._leases.waiting(1):
            actor.drain(_DRAIN_TIMEOUT_S)
            return
        actor.poll(self._settings.poll_s)

    def _watch_clocks(self) -> None:
        """Bury actors that hang, replace actors that do not start, and end the run if none starts."""
        now, settings = time.monotonic(), self._settings
        for actor in self._roster:
            if actor.drain_by is not None:
                if now > actor.drain_by:
                    self._bury(actor, "it did not drain in time", broken=True)
            elif actor.ready and now - actor.moved_at > settings.item_timeout_s:
                self._bury(actor, f"its work did not progress for {settings.item_timeout_s:g} s")
        if any(actor.ready for actor in self._roster):
            self._any_ready_at = now
            for actor in self._roster:
                if not actor.ready and now - actor.born_at > settings.start_timeout_s:
                    logger.warning("actor %s was not ready within %g s", actor.writer, settings.start_timeout_s)
                    self._roster.dismiss(actor)  # it hangs or has no place; `_hire` replaces it
        elif self._roster and now - self._any_ready_at > settings.start_timeout_s:
            self._error = ClusterError(self._no_start())

    def _no_start(self) -> str:
        import ray

        free, total = ray.available_resources(), ray.cluster_resources()
        names = sorted({"CPU", "GPU", *self._settings.resources})
        asked = ", ".join(f"{count:g} {name}" for name, count in self._settings.resources.items())
        offered = ", ".join(f"{free.get(name, 0):g} of {total.get(name, 0):g} {name}" for name in names)
        return (
            f"no actor was ready within the start timeout of {self._settings.start_timeout_s:g} s: "
            f"each asks for {asked or 'nothing'}; free in the cluster: {offered}{self._last_cause}"
        )

    def _bury(self, actor: RemoteActor, cause: str, *, broken: bool = False, lost: bool = False) -> None:
        """Dismiss an actor that died or hangs; queue its items again, unless the run is ending."""
        self._roster.dismiss(actor)
        if self._ending:
            return
        if not actor.ready and not lost:
            self._failed_starts += 1
            self._start_after = time.monotonic() + min(2.0 ** (self._failed_starts - 1), _MAX_PAUSE_S)
        self._last_cause = f"; last cause of death: {cause}"
        logger.warning("actor %s is given up: %s", actor.writer, cause)
        self._roster.await_dismissed()  # `recover` reads its files after it has stopped writing
        held = self._leases.held(actor.writer)
        recovered = self._recover(actor.writer, held) if held else Recovered()
        for item in self._leases.bury(actor.writer, recovered, broken=broken, lost=lost):
            self._on_failed(item, f"its actor died {MAX_STRIKES} times while working on it alone: {cause}")
        if self._leases.hopeless:
            self._error = ClusterError(f"actors die repeatedly; last cause: {cause}")

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._ready_at if self._ready_at else 0.0
        return Progress(self._leases.done, self._total, self._leases.failed, seconds, self._roster.counters())
