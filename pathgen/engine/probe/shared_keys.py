"""Keys and values that some layers compute and later layers read, kept by state while many paths run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import KVSharingDict

State = tuple[Hashable, tuple[int, ...]]
"""As `sharing.StateKey`: (row key, steps so far)."""


class SharedKeys:
    """What pinned layers wrote for each state that they computed.

    A pinned layer runs exactly once on every path, so each later state has one ancestor among its states.
    """

    def __init__(self, pinned: Sequence[int]):
        self._pinned = set(pinned)
        self._writers: dict[str, int] = {}
        self._written: dict[tuple[str, State], tuple[Tensor, ...]] = {}

    def given(self, states: Sequence[State], kwargs: dict[str, Any]) -> dict[str, Any]:
        """A layer's arguments, with what the ancestors of these states wrote, one row per state."""
        filled = KVSharingDict()
        for name, layer in self._writers.items():
            found = [self._written[name, _ancestor(state, layer)] for state in states if layer in state[1]]
            if len(found) == len(states):
                filled[name] = tuple(torch.stack(parts) for parts in zip(*found, strict=True))
        return {key: filled if isinstance(value, KVSharingDict) else value for key, value in kwargs.items()}

    def keep(self, layer: int, states: Sequence[State], kwargs: dict[str, Any]) -> None:
        """Keep what a pinned layer wrote into the arguments of `given`."""
        if layer not in self._pinned:
            return
        wrote = next(value for value in kwargs.values() if isinstance(value, KVSharingDict))
        for name in wrote:
            if self._writers.setdefault(name, layer) == layer:
                for place, state in enumerate(states):
                    self._written[name, state] = tuple(part[place] for part in wrote[name])


def _ancestor(state: State, layer: int) -> State:
    row, steps = state
    return row, steps[: steps.index(layer) + 1]
