"""The actors of a fleet: those that are there, and what those that have gone had counted."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from .remote_actor import RemoteActor

_KILL_WAIT_S = 2.0


class Roster:
    """The actors that are there. An iteration goes through those that were there when it began.

    Args:
        make_actor: as `Fleet`'s.
    """

    def __init__(self, make_actor: Callable[[str], Any]):
        self._make_actor = make_actor
        self._actors: dict[str, RemoteActor] = {}
        self._dismissed: list[Any] = []  # references to those whose end nobody has waited for
        self._past_counters: Counter[str] = Counter()

    def __iter__(self) -> Iterator[RemoteActor]:
        return iter(list(self._actors.values()))

    def __len__(self) -> int:
        return len(self._actors)

    def __contains__(self, actor: RemoteActor) -> bool:
        return actor.writer in self._actors

    def hire(self) -> None:
        """Makes an actor under a new id; it has answered once it is ready."""
        writer = f"w-{uuid.uuid4().hex[:8]}"
        actor = RemoteActor(writer, self._make_actor(writer))
        actor.poll(0.0)
        self.add(actor)

    def add(self, actor: RemoteActor) -> None:
        """Takes in an actor."""
        self._actors[actor.writer] = actor

    def dismiss(self, actor: RemoteActor) -> None:
        """Ends an actor's process."""
        del self._actors[actor.writer]
        self._past_counters.update(actor.counters)
        self._dismissed.append(actor.kill())

    def await_dismissed(self) -> None:
        """Waits a moment for those that were dismissed to be gone: of all at once, or a thousand would take minutes."""
        import ray

        if self._dismissed:
            ray.wait(self._dismissed, num_returns=len(self._dismissed), timeout=_KILL_WAIT_S)
        self._dismissed = []

    def counters(self) -> Counter[str]:
        """The sums over all, those that have gone too."""
        counters = self._past_counters.copy()
        for actor in self:
            counters.update(actor.counters)
        return counters
