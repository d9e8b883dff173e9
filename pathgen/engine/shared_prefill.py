"""A prefill shared by many paths: what layers store is recorded per state, and a cache is assembled from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor

from ..paths.layer_path import LayerPath
from .cache import RoutedCache, RowPlan
from .sharing import StateKey, steps_of
from .slots import Content, SlotMaker, batched, content, filled
from .token_rows import Row


class RecordingCache(RoutedCache):
    """Passed to layers in place of a cache: it stays empty, and records what each execution of a layer stores.

    Attributes:
        states: what each state's last layer stored, for the state's one row.
    """

    def __init__(self, makers: Sequence[SlotMaker]):
        super().__init__(makers)
        self.states: dict[StateKey, Content] = {}
        self._last: Content = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs):
        """Record keys and values of one execution of one layer; called by the model's own attention."""
        self._last = {("keys", 0): key_states, ("values", 0): value_states}
        return key_states, value_states

    def name_last(self, states: Sequence[StateKey]) -> Content:
        """Store what the last layer stored under the states that it computed, and return it."""
        last, self._last = self._last, {}
        for slot in self.slots.values():  # of a layer that stores more than keys and values
            last |= content(slot)
        self.slots.clear()
        rows = zip(*last.values(), strict=True) if last else repeat(())
        self.states.update((state, dict(zip(last, row, strict=True))) for state, row in zip(states, rows, strict=False))
        return last

    def filled(
        self, asked: Sequence[tuple[Row, LayerPath]], device: torch.device, bridged: bool, *, stems: bool
    ) -> RoutedCache:
        """A cache as after prefill: each row's prompt along its path, padded on the left; `bridged` as it was planned.

        The prompt's last token is missing; generation runs it first. `stems`: what was recorded is the rows' stems,
        padded on the left, else the rows, padded on the right.
        """
        tokens = [row.prompt_tokens - 1 for row, _ in asked]
        cache = RoutedCache(self.layers.makers)
        cache.length = max(tokens)
        actions = torch.tensor([path for _, path in asked])
        for layer in range(self.num_layers):
            plan = cache.plans[layer] = RowPlan.of(actions[:, layer], device)
            for turn in range(len(plan.passes)):
                running = (plan.actions > turn).nonzero()[:, 0].tolist()
                made = [
                    self.states.get((key, (*steps_of(path[:layer], bridged), *[layer] * (turn + 1))), {})
                    for key, path in (
                        (row.stem_key if stems else row.key, path) for row, path in map(asked.__getitem__, running)
                    )
                ]
                parts = batched(made, [tokens[row] for row in running], cache.length, from_end=stems)
                if parts and cache.length:
                    cache.slots[layer, turn] = filled(self.layers.makers[layer](), parts)
        return cache
