"""The state of every item: queued, leased, finished, durable or given up. Independent of Ray."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .protocol import Item, Recovered, Report

MAX_STRIKES = 3
"""An item is given up after this many deaths with it as the only item in flight."""
HOPELESS_DEATHS = 3
"""A run ends after this many fruitless deaths in a row."""


@dataclass(slots=True)
class _Lease:
    """The items of one actor that are not durable yet, and which of them are finished or failed."""

    items: dict[str, Item] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    alone: str | None = None
    worked: bool = False

    def unfinished(self) -> list[str]:
        return [key for key in self.items if key not in self.finished]


class Leases:
    """Leases items to actors, takes them back when an actor dies, and finds the items that kill actors.

    After a death, every item that the actor had not finished becomes a *suspect*, because an item that was waiting
    in the last report may have begun since. A suspect is leased alone. If that actor dies too, the item gets a strike
    and moves to the end of the queue; after `MAX_STRIKES` it is given up. Empty actors take suspects first, then
    fresh items, then struck ones. Nodes join and leave, so the first loss of a node does not make an item a suspect.
    """

    def __init__(self, items: Iterable[Item]):
        self._source = iter(items)
        self._fresh: deque[Item] = deque()
        self._suspects: deque[Item] = deque()
        self._struck: deque[Item] = deque()
        self._strikes: Counter[str] = Counter()
        self._spared: set[str] = set()
        self._leases: defaultdict[str, _Lease] = defaultdict(_Lease)
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
        """Done items that failed or were given up."""
        return self._settled_failed + sum(len(lease.failed) for lease in self._leases.values())

    @property
    def hopeless(self) -> bool:
        """Whether the last deaths show that the run cannot succeed. There are two cases.

        - `HOPELESS_DEATHS` actors died before they had an item and while no other actor had work, or on that many
          different single items, and nothing was finished meanwhile. All actors lost with their nodes count as one
          death, because a node takes all its actors with it, and another node may join.
        - That many actors broke with finished items that they had not committed, and nothing became durable meanwhile.
        """
        return len(self._fruitless) >= HOPELESS_DEATHS or self._uncommitted >= HOPELESS_DEATHS

    def waiting(self, limit: int) -> int:
        """Number of queued items, at most `limit` (the source is read no further than needed)."""
        known = len(self._suspects) + len(self._struck)
        while known + len(self._fresh) < limit and (item := next(self._source, None)) is not None:
            self._fresh.append(item)
        return min(limit, known + len(self._fresh))

    def take(self, writer: str, room: int) -> list[Item]:
        """Lease up to `room` items to an actor: fresh ones, or a single suspect if the actor is empty."""
        lease = self._leases[writer]
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
        """Apply an actor's report. Keys that it does not hold (late or repeated) change nothing."""
        lease = self._leases[writer]
        lease.finished.update(key for key in report.finished if key in lease.items)
        lease.failed.update(key for key in report.failed if key in lease.finished)
        if report.finished or report.durable:
            self._fruitless.clear()
        for key in report.durable:
            self._settle(lease, key)

    def unfinished(self, writer: str) -> list[str]:
        """Keys of the actor's waiting and active items."""
        return self._leases[writer].unfinished()

    def held(self, writer: str) -> list[Item]:
        """The actor's items that are not durable; its death would queue them again."""
        return list(self._leases[writer].items.values())

    def bury(self, writer: str, recovered: Recovered, *, broken: bool = False, lost: bool = False) -> list[Item]:
        """Queue a dead actor's items again, count strikes, and return the items given up: none or one.

        Args:
            writer: the dead actor.
            recovered: what its files hold.
            broken: it raised an error of its own or did not drain; its process did not vanish.
            lost: its node was lost. An item's second loss counts like other deaths: it may exhaust the node's memory.
        """
        lease = self._leases.pop(writer, _Lease())
        for key in recovered.durable & lease.items.keys():
            self._settle(lease, key)
        self._uncommitted += broken and bool(lease.finished)
        if not lease.worked and not any(other.unfinished() for other in self._leases.values()):
            self._fruitless.add("lost" if lost else writer)
        unfinished = lease.unfinished()
        spared = set(unfinished) - self._spared if lost else set()
        self._spared |= spared
        if len(unfinished) == 1:
            self._fruitless.add("lost" if lost else unfinished[0])
        if len(unfinished) == 1 and not spared:
            self._strikes[unfinished[0]] += 1
        given_up = []
        for key, held in lease.items.items():
            item = recovered.items.get(key, held)
            if key in lease.finished or key in spared:
                self._fresh.appendleft(item)
            elif self._strikes[key] >= MAX_STRIKES:
                given_up.append(item)
            else:
                (self._struck if key in self._strikes else self._suspects).append(item)
        self._settled += len(given_up)
        self._settled_failed += len(given_up)
        return given_up

    def _settle(self, lease: _Lease, key: str) -> None:
        """Count a durable item as done."""
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
