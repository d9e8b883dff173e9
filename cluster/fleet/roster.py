"""The living actors of a fleet, and the counters of the dismissed ones."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from .remote_actor import RemoteActor


class Roster:
    """The living actors. An iteration goes through the actors that lived when it began.

    Args:
        make_actor: as for `Fleet`.
    """

    def __init__(self, make_actor: Callable[[str], Any]):
        self._make_actor = make_actor
        self._actors: dict[str, RemoteActor] = {}
        self._dismissed: list[Any] = []  # references to actors whose end is not awaited yet
        self._past_counters: Counter[str] = Counter()

    def __iter__(self) -> Iterator[RemoteActor]:
        return iter(list(self._actors.values()))

    def __len__(self) -> int:
        return len(self._actors)

    def __contains__(self, actor: RemoteActor) -> bool:
        return actor.writer in self._actors

    def hire(self) -> None:
        """Make an actor under a new id; it answers the first poll when it is ready."""
        writer = f"w-{uuid.uuid4().hex[:8]}"
        actor = RemoteActor(writer, self._make_actor(writer))
        actor.poll(0.0)
        self.add(actor)

    def add(self, actor: RemoteActor) -> None:
        """Include an actor that exists already."""
        self._actors[actor.writer] = actor

    def dismiss(self, actor: RemoteActor) -> None:
        """End an actor's process."""
        del self._actors[actor.writer]
        self._past_counters.update(actor.counters)
        self._dismissed.append(actor.kill())

    def await_dismissed(self) -> None:
        """Wait up to 2 s until all dismissed actors have ended, together: one by one, a thousand would take minutes."""
        import ray

        if self._dismissed:
            ray.wait(self._dismissed, num_returns=len(self._dismissed), timeout=2.0)
        self._dismissed = []

    def counters(self) -> Counter[str]:
        """The counters, summed over living and dismissed actors."""
        counters = self._past_counters.copy()
        for actor in self:
            counters.update(actor.counters)
        return counters
