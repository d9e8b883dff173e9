"""The actors of a fleet: those that are there, and what those that have gone had counted."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from .member import Member, await_deaths


class Roster:
    """Who is there. To go through it is to go through those that were there at the beginning.

    Args:
        make_actor: as `Fleet`'s.
    """

    def __init__(self, make_actor: Callable[[str], Any]):
        self._make_actor = make_actor
        self._members: dict[str, Member] = {}
        self._dismissed: list[Any] = []  # references to those whose end nobody has waited for
        self._past_counters: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: Member) -> bool:
        return member.writer in self._members

    def hire(self) -> None:
        """Makes an actor under a new id; it has answered once it is ready."""
        writer = f"w-{uuid.uuid4().hex[:8]}"
        member = Member(writer, self._make_actor(writer))
        member.poll(0.0)
        self.add(member)

    def add(self, member: Member) -> None:
        """Takes in an actor."""
        self._members[member.writer] = member

    def dismiss(self, member: Member) -> None:
        """Ends an actor's process."""
        del self._members[member.writer]
        self._past_counters.update(member.counters)
        self._dismissed.append(member.kill())

    def await_dismissed(self) -> None:
        """Waits a moment for those that were dismissed to be gone: of all at once, or a thousand would take minutes."""
        await_deaths(self._dismissed)
        self._dismissed = []

    def counters(self) -> Counter[str]:
        """The sums over all, those that have gone too."""
        counters = self._past_counters.copy()
        for member in self._members.values():
            counters.update(member.counters)
        return counters
