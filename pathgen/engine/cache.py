"""The key-value cache of a routed forward: only what ran, and only for the rows that ran it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from .supported import UnsupportedModelError

GROW_TOKENS = 32
GROW_SHARE = 8
"""A full slot grows by 32 tokens or by 1/8, the larger of the two: decode appends in place, at little extra memory."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The rows of a batch that run a layer, as the policy decided."""

    actions: Tensor
    """[B] int64 on the CPU, one LayerAction per row."""
    passes: tuple[Tensor | None, ...]
    """Rows [R] (int64, on the model's device) of the first and second execution. None: all rows. Missing: no rows."""
    skipped: tuple[Tensor | None, ...]
    """Rows that skip the layer, in the same form; bridges run on them."""

    @classmethod
    def of(cls, actions: Tensor, device: torch.device) -> RowPlan:
        """Split the actions into rows per pass. Reads back from the device once if `actions` are on an accelerator."""
        actions = actions.detach().to("cpu", torch.int64)

        def rows(*chosen: Tensor) -> tuple[Tensor | None, ...]:
            return tuple(
                None if bool(some.all()) else some.nonzero()[:, 0].to(device, non_blocking=True)
                for some in chosen
                if bool(some.any())
            )

        return cls(actions, rows(actions > 0, actions > 1), rows(actions == 0))


class Slot:
    """Keys and values of one (layer, pass): [R, heads, tokens, head_dim] for the R rows that ran it, in batch order."""

    def __init__(self) -> None:
        self.used = 0
        self.store: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new tokens; return all keys and values so far, as views."""
        end = self.used + keys.shape[2]
        if self.store is None:
            self.store = (keys, values)
        else:
            if end > self.store[0].shape[2]:
                self._grow(max(end, self.used + max(GROW_TOKENS, self.used // GROW_SHARE)))
            for kept, new in zip(self.store, (keys, values), strict=True):
                kept[:, :, self.used : end] = new
        self.used = end
        return self.store[0][:, :, :end], self.store[1][:, :, :end]

    def _grow(self, room: int) -> None:
        assert self.store is not None
        grown = tuple(old.new_empty(*old.shape[:2], room, old.shape[3]) for old in self.store)
        for new, old in zip(grown, self.store, strict=True):
            new[:, :, : self.used] = old[:, :, : self.used]
        self.store = (grown[0], grown[1])

    def select(self, index: Tensor) -> None:
        """Keep the rows `index` [R'] of the stored rows, in this order."""
        assert self.store is not None
        index = index.to(self.store[0].device, non_blocking=True)
        self.store = (self.store[0][index], self.store[1][index])


class RoutedCache(Cache):
    """One slot per (layer, pass), its own length counter, and the rows' actions.

    A repeat has the positions of the first pass and never overwrites it; a skipped layer stores nothing. A path may
    skip layer 0, so the length is a counter, which the wrapper of the last layer advances once per forward. The
    cache owns the rows' actions: reordering (beams) moves paths and slots together, and a decode step never asks the
    policy. Slots hold all tokens for sliding-window layers too; the masks apply the window.
    """

    def __init__(self, num_layers: int):
        super().__init__(layers=[])
        self.num_layers = num_layers
        self.length = 0
        self.plans: dict[int, RowPlan] = {}
        self.slots: dict[tuple[int, int], Slot] = {}
        self.turn = 0  # the pass of the layer that is running; set by the wrapper before each call

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(t.numel() * t.element_size() for slot in self.slots.values() for t in slot.store or ())

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs):
        """Append one pass of one layer; called by the model's own attention."""
        slot = self.slots.get((layer_idx, self.turn))
        if slot is None:
            slot = self.slots[(layer_idx, self.turn)] = Slot()
        return slot.append(key_states, value_states)

    # Used by transformers' masks and generation.

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen so far, independent of the layers that ran."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(keys, offset of the first key) of the next forward."""
        return self.length + query_length, 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Position of the next forward's first query."""
        return self.length

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Unbounded."""
        return -1

    def _per_layer_false(self) -> list[bool]:
        return [False] * self.num_layers

    is_sliding = property(_per_layer_false)
    is_linear = property(_per_layer_false)
    is_dummy = property(_per_layer_false)
    is_compileable = property(lambda self: False)
    is_croppable = property(lambda self: True)
    is_initialized = property(lambda self: self.length > 0)

    @property
    def batch_size(self) -> int:
        """Rows, or -1 before the first forward."""
        return len(next(iter(self.plans.values())).actions) if self.plans else -1

    def __len__(self) -> int:
        return self.num_layers

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens; transformers passes the number negated.

        Raises:
            ValueError: the number is positive, or the cache has fewer tokens.
        """
        removed = -tokens_to_remove
        if not 0 <= removed <= self.length:
            raise ValueError(f"crop takes 0 to -{self.length} for {self.length} tokens held; got {tokens_to_remove}")
        self.length -= removed
        for slot in self.slots.values():
            slot.used -= removed

    def reset(self) -> None:
        """Remove everything, the rows' paths included."""
        self.length = 0
        self.plans.clear()
        self.slots.clear()

    def activate_past_recording(self) -> None:
        """Called by speculative decoding; does nothing, because slots can always be cropped."""

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the batch rows `indices` [B'], with their slots and paths, in this order."""
        index = torch.as_tensor(indices).cpu()  # one read-back for all layers: the actions are on the CPU
        device = next((slot.store[0].device for slot in self.slots.values() if slot.store), torch.device("cpu"))
        for (layer, turn), slot in self.slots.items():
            ran = self.plans[layer].actions > turn  # [B]
            place = ran.cumsum(0) - 1  # of each row among the rows that ran
            slot.select(place[index[ran[index]]])
        for layer, plan in self.plans.items():
            self.plans[layer] = RowPlan.of(plan.actions[index], device)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """As `batch_select_indices`, under the name that beam search calls."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times, next to each other."""
        self.batch_select_indices(torch.arange(self.batch_size).repeat_interleave(repeats))


def layer_cache(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> RoutedCache | None:
    """The cache among the arguments of a layer of the model class `name`.

    Raises:
        UnsupportedModelError: it is one of the model's own making, where a repeat would overwrite or append twice.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, RoutedCache):
            return value
        if isinstance(value, Cache):
            raise UnsupportedModelError(
                f"{name}: its layers were given a {type(value).__name__} of the model's own, not the cache of the paths"
            )
    return None
