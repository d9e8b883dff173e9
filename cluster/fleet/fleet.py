"""A fleet of replaceable Ray actors that works through a stream of items, whatever becomes of single actors."""

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
_MAX_REST_S = 60.0


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How a fleet is kept.

    Attributes:
        num_actors: actors at a time, or asked anew every few seconds, so that a fleet follows its cluster. At
            least one; fewer where there are fewer items. Those that find no place wait for one.
        item_timeout_s: an actor whose work has not moved for so long is killed.
        start_timeout_s: so long an actor may take to be ready; then it is made anew. With none ready for so long the
            run ends.
        drain_timeout_s: so long an actor may take to commit what it holds at the end.
        stop_by: by when actors must have drained after an interruption, in `time.monotonic()` seconds, asked when it
            comes: who interrupts may kill soon after.
        poll_s: how long an actor sits on a poll without news.
        resources: what one actor asks of Ray (`{"CPU": 4}`), for the message when none starts.
    """

    num_actors: int | Callable[[], int] = 1
    item_timeout_s: float = 600.0
    start_timeout_s: float = 300.0
    drain_timeout_s: float = 120.0
    stop_by: Callable[[], float] = lambda: math.inf
    poll_s: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)


class Fleet:
    """Runs items on actors that answer the calls of `WorkThread`; replaces those that die.

    Each item is done once as far as the driver knows; an actor that was given up may still be writing, so
    results must carry its writer id or be checked against a lease of the owner's. Not reusable: one `run`.

    Args:
        make_actor: makes a Ray actor (`max_restarts=0, max_task_retries=0, max_concurrency=2`) that writes
            under the given new id. It counts as started when it answers its first poll.
        settings: how the fleet is kept.
        recover: called after a death with the dead writer's id and the items it held that were not known to
            be durable, before any of them is given out again.
        on_failed: called with an item that is given up and the cause: its actor died `MAX_STRIKES` times with
            nothing else in flight.
        stop: once set, actors drain and `run` returns.
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
        self._any_ready_at = time.monotonic()  # or none yet
        self._failed_starts = 0
        self._rest_until = -math.inf
        self._last_cause = ""
        self._told_at = 0.0
        self._size = 0
        self._sized_at = -math.inf

    def start(self, most: int) -> None:
        """Makes actors before the items are known, so that they load what they need meanwhile; `run` comes next.

        Args:
            most: items that there may be.
        """
        self._resize()
        for _ in range(min(self._size, most)):
            self._roster.hire()

    def run(self, items: Iterable[Item], total: int, on_progress: Callable[[Progress], object]) -> Progress:
        """Works through the items; returns when all are durable or given up, or after `stop`.

        Args:
            items: read lazily, a little ahead of the actors; keys unique.
            total: how many there are, for progress.
            on_progress: called about once a second and at the end.

        Raises:
            ClusterError: if no actor starts in time, or actors die again and again without getting anywhere.
            Exception: of the items or the owner's callbacks. In any case actors still alive are drained first.
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
            if not self._stop.is_set():  # else there may be no time, and nobody tidies up after them
                self._roster.await_dismissed()

    def _turn(self, on_progress: Callable[[Progress], object]) -> bool:
        """One turn of the loop; False once no actor is left."""
        try:
            if self._ending:
                self._wind_up()
            else:
                self._hire()
            if not self._roster:
                return self._rests()
            self._listen()
            self._watch_clocks()
            if self._error is None and time.monotonic() - self._told_at >= _PROGRESS_EVERY_S:
                self._told_at = time.monotonic()
                on_progress(self._progress())
        except Exception as error:
            if self._error is not None:
                raise
            self._error = error
        return True

    def _rests(self) -> bool:
        """Waits a moment if new actors are to be made a little later."""
        rests = not self._ending and time.monotonic() < self._rest_until and self._leases.waiting(1) > 0
        if rests:
            self._stop.wait(_TICK_S)
        return rests

    @property
    def _ending(self) -> bool:
        return self._stop.is_set() or self._error is not None

    def _hire(self) -> None:
        """Makes actors while there is more queued than actors without work, up to the fleet's size.

        Those that still start, or wait for a place, go where there is less queued. After starts that failed it rests
        for longer and longer: a node that is broken is free, so new actors come to it first.
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
        if time.monotonic() >= self._rest_until:
            for _ in range(min(wanted - len(starting), self._size - len(self._roster))):
                self._roster.hire()

    def _resize(self) -> None:
        """Asks for the fleet's size, if it is time; what is too many by now works on until it dies or drains."""
        now, size = time.monotonic(), self._settings.num_actors
        if now - self._sized_at >= _RESIZE_EVERY_S:
            self._sized_at = now
            self._size = max(1, size() if callable(size) else size)

    def _wind_up(self) -> None:
        """Drains the actors at work, drops those that still start; in haste once `stop` is set."""
        for actor in self._roster:
            if not actor.ready:
                self._roster.dismiss(actor)
                continue
            drain_by = actor.drain_by or actor.drain(self._settings.drain_timeout_s)
            if self._stop.is_set():
                actor.drain_by = min(drain_by, self._settings.stop_by())

    def _listen(self) -> None:
        """Waits a moment for an answer of any actor, and acts on all there are."""
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
                self._go_on_with(actor)

    def _go_on_with(self, actor: RemoteActor) -> None:
        """An actor has answered everything: give it items, or let it go if there is nothing left for it."""
        if actor.drain_by is not None:
            if self._leases.held(actor.writer) and not self._ending:
                self._bury(actor, "it drained, and left finished items uncommitted", broken=True)
            else:
                self._roster.dismiss(actor)
            return
        # Near the end no actor takes more than its share, or the others would go and leave it alone with the rest.
        share = math.ceil(self._leases.waiting(self._size * actor.room) / self._size)
        items = self._leases.take(actor.writer, min(actor.room, share))
        if items:
            actor.extend(items)
        elif not self._leases.unfinished(actor.writer) and not self._leases.waiting(1):
            actor.drain(self._settings.drain_timeout_s)
            return
        actor.poll(self._settings.poll_s)

    def _watch_clocks(self) -> None:
        """Buries actors that hang, makes those anew that do not start; gives the run up if none does."""
        now, settings = time.monotonic(), self._settings
        for actor in self._roster:
            if actor.drain_by is not None:
                if now > actor.drain_by:
                    self._bury(actor, "it did not drain in time", broken=True)
            elif actor.ready and now - actor.moved_at > settings.item_timeout_s:
                self._bury(actor, f"its work did not move for {settings.item_timeout_s:g} s")
        if any(actor.ready for actor in self._roster):
            self._any_ready_at = now
            for actor in self._roster:
                if not actor.ready and now - actor.born_at > settings.start_timeout_s:
                    logger.warning("actor %s was not ready within %g s", actor.writer, settings.start_timeout_s)
                    self._roster.dismiss(actor)  # it hangs, or waits for a place: so may the next one, if it is wanted
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
        """An actor is dead or as good as dead: what it held goes back to the queue, unless the run is ending."""
        self._roster.dismiss(actor)
        if self._ending:
            return
        if not actor.ready and not lost:
            self._failed_starts += 1
            self._rest_until = time.monotonic() + min(2.0 ** (self._failed_starts - 1), _MAX_REST_S)
        self._last_cause = f"; the last to die: {cause}"
        logger.warning("actor %s is given up: %s", actor.writer, cause)
        self._roster.await_dismissed()  # what it held is looked for only once it writes no more
        held = self._leases.held(actor.writer)
        recovered = self._recover(actor.writer, held) if held else Recovered()
        for item in self._leases.bury(actor.writer, recovered, broken=broken, lost=lost):
            self._on_failed(item, f"its actor died {MAX_STRIKES} times while working on it alone: {cause}")
        if self._leases.hopeless:
            self._error = ClusterError(f"actors die again and again; the last: {cause}")

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._ready_at if self._ready_at else 0.0
        return Progress(self._leases.done, self._total, self._leases.failed, seconds, self._roster.counters())
