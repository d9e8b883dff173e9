"""Messages between a fleet and its actors: plain picklable data.

The states of an item: *queued* with the driver, *leased* to an actor (waiting there), *active* (being worked on),
*finished* (its result is in the actor's memory), *durable* (its result survives the actor). Only durable is final: when
an actor dies, all its items that are not durable are queued again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Item(Protocol):
    """A unit of work: small and picklable (well under 100 kB). The fleet reads only its key."""

    @property
    def key(self) -> str:
        """Unique within a run."""


@dataclass(frozen=True, slots=True)
class Report:
    """An actor's news: `finished`, `failed` and `durable` name each key once, in the first report after the change.

    Attributes:
        room: how many more items the actor can take now. Keep the number of waiting items small: if the actor dies,
            each of them must then run alone, like the active ones.
        active: key -> seconds since the work on it last progressed (not since it began). Waiting items are absent.
        finished: keys whose result is now in memory, failed ones included.
        failed: the finished keys whose result is a failure that the actor itself records.
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
    """What the owner found in a dead actor's files.

    Attributes:
        durable: keys with a committed result; they are done.
        items: by key, an item to queue instead of the old one, for example one with the path of stored progress. A key
            that is in neither is queued unchanged.
    """

    durable: frozenset[str] = frozenset()
    items: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        done: items finished or durable, failed ones included. It may decrease a little when an actor dies.
        failed: done items that failed by the actors' reports, or were given up after too many deaths.
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
