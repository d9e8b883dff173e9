"""A prefill shared by many paths, and by all continuations of a prompt where layers carry states.

What layers store is recorded per state, and a cache is assembled from it.

Where layers carry states, a row is cut before the prompt's last token into a *stem* and a *tail*, which holds all
scored positions. Stems are padded on the left, so that the states after their last token are their own, and what each
layer stored is recorded. Tails are padded on the right; each of their layer runs starts from what the same run stored
for their stem. Where a family cannot go on from a state, each continuation is a row of its own, and stems serve
generation alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from ..paths.layer_path import LayerPath
from ..slots.layer_slots import Content, SlotMaker, batched, content, filled
from .cache import RoutedCache, RowPlan
from .padded_rows import padded
from .sharing import StateKey, steps_of
from .token_rows import Row


class RecordingCache(RoutedCache):
    """Passed to layers in place of a cache: it stays empty, and records what each execution of a layer stores.

    Attributes:
        states: what each state's last layer stored, for the state's one row.
    """

    def __init__(self, makers: Sequence[SlotMaker], places: Mapping[int, int] | None = None):
        super().__init__(makers, places)
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
        cache = RoutedCache(self.layers.makers, self.layers.places)
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


def stem_of(row: Row) -> Row:
    """The row's prompt without its last token; nothing of it is scored, and it may be empty."""
    part, none = slice(row.prompt_tokens - 1), slice(0)
    return replace(
        row,
        key=row.stem_key,
        **{name: getattr(row, name)[part] for name in ("ids", "positions", "branch")},
        **{name: getattr(row, name)[none] for name in ("scored", "predicts", "targets", "owners")},
    )


def tail_of(row: Row) -> Row:
    """The row from its prompt's last token on."""
    start = row.prompt_tokens - 1
    parts = {name: getattr(row, name)[start:] for name in ("ids", "positions", "branch")}
    return replace(row, scored=row.scored - start, **parts)


def stem_inputs(stems: Sequence[Row], device: torch.device) -> dict[str, Any]:
    """The arguments of a model's forward: ids, positions and mask [B, S], padded on the left; S is 1 at least."""
    mask = _stem_mask(stems, device)
    ids = torch.zeros_like(mask)
    ids[mask == 1] = torch.cat([torch.as_tensor(stem.ids) for stem in stems]).to(device)
    return {"input_ids": ids, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "attention_mask": mask}


def tail_inputs(tails: Sequence[Row], stems: Sequence[Row], device: torch.device) -> dict[str, Any]:
    """Ids and positions [B, T], padded on the right, and the mask [B, S + T] of each tail after its stem."""
    ones = padded(([1] * len(tail) for tail in tails), device)
    return {
        "input_ids": padded((tail.ids for tail in tails), device),
        "position_ids": padded((tail.positions for tail in tails), device),
        "attention_mask": torch.cat([_stem_mask(stems, device), ones], dim=1),
    }


def _stem_mask(stems: Sequence[Row], device: torch.device) -> Tensor:
    width = max(1, *map(len, stems))
    return torch.tensor([[0] * (width - len(stem)) + [1] * len(stem) for stem in stems], device=device)


class BranchCache(RoutedCache):
    """Passed to layers that run tails: before each run it holds what the stems of the run's states stored.

    Args:
        recorded: what each state of the stems stored.
        tails: the rows.
        stems: the stem of each row.
    """

    def __init__(self, recorded: RecordingCache, tails: Sequence[Row], stems: Sequence[Row]):
        super().__init__(recorded.layers.makers, recorded.layers.places)
        self.length = max(1, *map(len, stems))
        self._recorded = recorded.states
        self._stems = {tail.key: stem for tail, stem in zip(tails, stems, strict=True)}

    def before(self, layer: int, states: Sequence[StateKey]) -> None:
        """Get ready for one run of a layer, which computes these states."""
        stems = [self._stems[key] for key, _ in states]
        stored = [self._recorded[stem.key, steps] for stem, (_, steps) in zip(stems, states, strict=True)]
        self.slots.clear()
        if parts := batched(stored, [len(stem) for stem in stems], self.length, from_end=True):
            self.slots[layer, 0] = filled(self.layers.makers[layer](), parts)
