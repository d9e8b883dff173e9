"""Where every item is: queued, leased, finished, durable or given up. The fleet's bookkeeping, free of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .protocol import Item, Recovered, Report

MAX_STRIKES = 3
"""So many deaths with an item as the only one in flight, and it is given up."""
HOPELESS_DEATHS = 3
"""So many fruitless deaths in a row, and the run cannot go on."""
_LOST = "lost"


@dataclass(slots=True)
class _Lease:
    """What one actor holds: items that are not durable yet, and which of them are finished or failed."""

    items: dict[str, Item] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    alone: str | None = None
    worked: bool = False

    def unfinished(self) -> list[str]:
        return [key for key in self.items if key not in self.finished]


class Leases:
    """Gives each item out, takes it back when its actor dies, and finds the items that kill.

    After a death every item that its actor had not finished becomes a *suspect*: what was waiting when the
    actor last spoke may have begun since. A suspect is leased alone. If the actor dies again, that is a strike
    against it and it goes to the back of the queue; after `MAX_STRIKES` it is given up. Empty actors
    take suspects first, then fresh items, then struck ones. Nodes come and go, so with the first node that an item
    is lost with it goes on as if nothing had been.
    """

    def __init__(self, items: Iterable[Item]):
        self._source = iter(items)
        self._fresh: deque[Item] = deque()
        self._suspects: deque[Item] = deque()
        self._struck: deque[Item] = deque()
        self._strikes: dict[str, int] = {}
        self._spared: set[str] = set()
        self._leases: dict[str, _Lease] = {}
        self._settled = 0
        self._settled_failed = 0
        self._fruitless: set[str] = set()
        self._uncommitted = 0

    @property
    def done(self) -> int:
        """Items finished or durable, failed and given up ones included."""
        return self._settled + sum(len(lease.finished) for lease in self._leases.values())

    @property
    def failed(self) -> int:
        """Of the done items those that failed or were given up."""
        return self._settled_failed + sum(len(lease.failed) for lease in self._leases.values())

    @property
    def hopeless(self) -> bool:
        """Whether the last deaths say that going on is of no use.

        Either `HOPELESS_DEATHS` actors died before they were given anything and while no other had work, or on so
        many different single items, and nothing was finished meanwhile (however many were lost with their nodes, they
        count as one: a node takes all its actors along, and another may come); or so many broke with finished items
        that they had not committed, and nothing became durable meanwhile.
        """
        return len(self._fruitless) >= HOPELESS_DEATHS or self._uncommitted >= HOPELESS_DEATHS

    def waiting(self, limit: int) -> int:
        """How many items are queued, counted up to `limit` (the source is read no further than that)."""
        known = len(self._suspects) + len(self._struck)
        while known + len(self._fresh) < limit and (item := next(self._source, None)) is not None:
            self._fresh.append(item)
        return min(limit, known + len(self._fresh))

    def take(self, writer: str, room: int) -> list[Item]:
        """Leases up to `room` items to an actor: fresh ones, or a single suspect if it is empty."""
        lease = self._leases.setdefault(writer, _Lease())
        unfinished = lease.unfinished()
        if room < 1 or lease.alone in unfinished:
            return []
        lease.alone = None
        self.waiting(len(self._suspects) + len(self._struck) + room)
        if not unfinished and (self._suspects or (self._struck and not self._fresh)):
            taken = [(self._suspects or self._struck).popleft()]
            lease.alone = taken[0].key
        else:
            taken = [self._fresh.popleft() for _ in range(min(room, len(self._fresh)))]
        lease.items.update((item.key, item) for item in taken)
        lease.worked |= bool(taken)
        return taken

    def record(self, writer: str, report: Report) -> None:
        """Takes in an actor's news. Keys that it does not hold (late, or told twice) change nothing."""
        lease = self._leases.setdefault(writer, _Lease())
        lease.finished.update(key for key in report.finished if key in lease.items)
        lease.failed.update(key for key in report.failed if key in lease.finished)
        if report.finished or report.durable:
            self._fruitless.clear()
        for key in report.durable:
            self._settle(lease, key)

    def unfinished(self, writer: str) -> list[str]:
        """Keys that the actor waits with or works on."""
        return self._leases[writer].unfinished() if writer in self._leases else []

    def held(self, writer: str) -> list[Item]:
        """Items that the actor's death would queue again: all it holds that is not durable."""
        return list(self._leases[writer].items.values()) if writer in self._leases else []

    def bury(self, writer: str, recovered: Recovered, *, broken: bool = False, lost: bool = False) -> list[Item]:
        """Queues what a dead actor held, and judges.

        Args:
            writer: the dead actor.
            recovered: what its files hold.
            broken: it raised an error of its own or would not drain, rather than vanished.
            lost: it went with its node. The second time that is a death like others: an item may take its memory.

        Returns:
            The items given up by this death: none or one.
        """
        lease = self._leases.pop(writer, _Lease())
        for key in recovered.durable & lease.items.keys():
            self._settle(lease, key)
        self._uncommitted += broken and bool(lease.finished)
        if not lease.worked and not any(other.unfinished() for other in self._leases.values()):
            self._fruitless.add(_LOST if lost else writer)
        unfinished = lease.unfinished()
        spared = set(unfinished) - self._spared if lost else set()
        self._spared |= spared
        if len(unfinished) == 1:
            self._fruitless.add(_LOST if lost else unfinished[0])
        if len(unfinished) == 1 and not spared:
            self._strikes[unfinished[0]] = self._strikes.get(unfinished[0], 0) + 1
        given_up = []
        for key, held in lease.items.items():
            item = recovered.items.get(key, held)
            if key in lease.finished or key in spared:
                self._fresh.appendleft(item)
            elif self._strikes.get(key, 0) >= MAX_STRIKES:
                given_up.append(item)
            else:
                (self._struck if key in self._strikes else self._suspects).append(item)
        self._settled += len(given_up)
        self._settled_failed += len(given_up)
        return given_up

    def _settle(self, lease: _Lease, key: str) -> None:
        """An item is durable: for good."""
        if lease.items.pop(key, None) is None:
            return
        self._settled += 1
        self._settled_failed += key in lease.failed
        lease.finished.discard(key)
        lease.failed.discard(key)
        self._strikes.pop(key, None)
        self._spared.discard(key)
        self._fruitless.clear()
        self._uncommitted = 0
