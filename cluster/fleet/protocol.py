"""What a fleet and its actors say to each other: plain picklable data.

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
