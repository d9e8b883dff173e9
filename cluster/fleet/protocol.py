"""What a fleet and its actors say to each other: plain picklable data, and the calls an actor answers.

An item's way: *queued* with the driver, *leased* to an actor (waiting there), *active* (being worked on),
*finished* (its result is in the actor's memory), *durable* (its result would survive the actor). Only durable
is for good: when an actor dies, everything it held that is not durable is queued again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Item(Protocol):
    """A unit of work: small and picklable (well under 100 kB). The fleet looks at its key alone."""

    @property
    def key(self) -> str:
        """Unique within a run."""


@dataclass(frozen=True, slots=True)
class Report:
    """An actor's news: `finished`, `failed` and `durable` name each key once, in the first report after it.

    Attributes:
        room: how many more items the actor would take now. Keep the waiting ones few: what waits in an actor
            that dies must prove itself alone afterwards, like what was active.
        active: key -> seconds since the work on it last moved (not since it began). Waiting items are absent.
        finished: keys whose result is now in memory, failed ones included.
        failed: those of the finished whose result is a failure that the actor itself records.
        durable: keys whose result is now on disk. A key may be finished and durable in the same report.
        counters: totals since the actor began, by name; the fleet sums them over all actors, dead ones too.
    """

    room: int
    active: Mapping[str, float] = field(default_factory=dict)
    finished: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    durable: tuple[str, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)


class FleetActor(Protocol):
    """What a worker class offers. Its work runs in a thread of its own, so that these calls stay short.

    Made with `max_restarts=0, max_task_retries=0` and `max_concurrency=2`: the second thread lets `drain`
    overtake a `poll` that waits, so the methods share one lock. The constructor loads whatever work needs;
    the actor counts as started when it answers its first poll. An exception out of any call, or out of the
    constructor, means that the actor is broken: it is killed and replaced. If the work thread ends by an
    exception, raise that exception from the next call (from a waiting `poll` at once).
    """

    def extend(self, items: list[Item]) -> None:
        """Takes items into the backlog: at most `room` of the last report. Called before the next `poll`."""

    def poll(self, wait_s: float) -> Report:
        """News: at once if something is finished or durable since the last report, else after `wait_s`.

        `room` alone is no reason to return early: the fleet may have nothing to give.
        """

    def drain(self) -> Report:
        """The last call: take up nothing more, make everything finished durable, say what became durable.

        After an interruption items may still be active: store what is worth keeping of them and leave them
        out of the report. It must return within the fleet's bound, or the actor is killed.
        """


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the owner found among a dead actor's files.

    Attributes:
        durable: keys with a committed result; they are done.
        items: by key, what is queued in the place of an item, say one that points at stored progress. A key that
            is in neither is queued as it was.
    """

    durable: frozenset[str] = frozenset()
    items: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: items finished or durable, failed ones included. An actor's death may take it back a little.
        total: all items of the run.
        failed: of the done: by the actors' reports, or given up after too many deaths.
        seconds: since the first actor was ready; 0 before.
        counters: of the reports, summed over all actors, dead ones too.
    """

    done: int
    total: int
    failed: int
    seconds: float
    counters: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Items done per second since the first actor was ready; 0 before."""
        return self.done / self.seconds if self.seconds else 0.0
