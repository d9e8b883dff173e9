"""A prefill shared by many paths: keys and values are recorded per state, and a cache is assembled from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..paths.layer_path import LayerPath
from .cache import RoutedCache, RowPlan, Slot
from .sharing import StateKey, steps_of
from .token_rows import Row

KeyValues = tuple[Tensor, Tensor]
"""Keys and values of one execution of a layer: [n, heads, T, head_dim], or without n for one state."""


class RecordingCache(RoutedCache):
    """Passed to layers in place of a cache: it stays empty, and records the keys and values it receives.

    Attributes:
        last: keys and values of the layer that ran last, [n, heads, T, head_dim] each.
        states: keys and values of each state's last layer, [heads, T, head_dim] each.
    """

    def __init__(self, num_layers: int):
        super().__init__(num_layers)
        self.last: KeyValues | None = None
        self.states: dict[StateKey, KeyValues] = {}

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs) -> KeyValues:
        """Record one execution of one layer; called by the model's own attention."""
        self.last = (key_states, value_states)
        return self.last

    def name_last(self, states: Sequence[StateKey]) -> KeyValues | None:
        """Store the last layer's keys and values under the states that it computed, and return them.

        None if the layer stored nothing, because it reads the keys of another.
        """
        last, self.last = self.last, None
        if last is None:
            return None
        self.states.update(zip(states, zip(*last, strict=True), strict=True))
        return last

    def filled(self, asked: Sequence[tuple[Row, LayerPath]], device: torch.device, bridged: bool) -> RoutedCache:
        """A cache as after prefill: each row's prompt along its path, padded on the left; `bridged` as it was planned.

        The prompt's last token is missing; generation runs it first.
        """
        tokens = [row.prompt_tokens - 1 for row, _ in asked]
        cache = RoutedCache(self.num_layers)
        cache.length = max(tokens)
        actions = torch.tensor([path for _, path in asked])
        for layer in range(self.num_layers):
            plan = cache.plans[layer] = RowPlan.of(actions[:, layer], device)
            for turn in range(len(plan.passes)):
                running = (plan.actions > turn).nonzero()[:, 0].tolist()
                made = [
                    key_values
                    for row in running
                    if (key_values := self.states.get(_state(asked[row], layer, turn, bridged))) is not None
                ]
                if not made:  # the layer reads the keys of another
                    continue
                lengths = [tokens[row] for row in running]
                slot = cache.slots[layer, turn] = Slot()
                slot.append(*(_aligned(part, lengths, cache.length) for part in zip(*made, strict=True)))
        return cache


def _state(asked: tuple[Row, LayerPath], layer: int, turn: int, bridged: bool) -> StateKey:
    row, path = asked
    return row.key, (*steps_of(path[:layer], bridged), *[layer] * (turn + 1))


def _aligned(rows: Sequence[Tensor], tokens: list[int], width: int) -> Tensor:
    """[n, heads, width, head_dim]: the first `tokens` of each row, padded on the left."""
    heads, _, head_dim = rows[0].shape
    together = rows[0].new_zeros(len(rows), heads, width, head_dim)
    for place, (row, count) in enumerate(zip(rows, tokens, strict=True)):
        together[place, :, width - count :] = row[:, :count]
    return together
