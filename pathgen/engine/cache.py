"""The cache of a routed forward: only what ran, and only for the rows that ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ..paths.layer_path import LayerAction
from ..slots.layer_slots import KeyValueSlot, SlotMaker, holds_state, joined
from .supported import UnsupportedModelError, tensors_in


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


class RunningSlots(Sequence[Any]):
    """The slots of all passes. As a sequence, as transformers reads it: the slots of the pass that is running.

    Args:
        makers: of the slots of each layer, by its place in the stack.
        places: of the layers, by the number under which they ask; None: the same.
    """

    def __init__(self, makers: Sequence[SlotMaker], places: Mapping[int, int] | None = None):
        self.makers = makers
        self.places = places
        self.made: dict[tuple[int, int], Any] = {}
        self.turn = 0

    def __len__(self) -> int:
        return len(self.makers)

    def __getitem__(self, layer: Any) -> Any:
        if self.places is not None and (layer := self.places.get(layer)) is None:
            return KeyValueSlot()  # of a layer that is not in the stack: it stores nothing
        slot = self.made.get((layer, self.turn))
        if slot is None:
            slot = self.made[layer, self.turn] = self.makers[layer]()
        return slot


class RoutedCache(Cache):
    """One slot per (layer, pass), its own length counter, and the rows' actions.

    A repeat has the positions of the first pass and never overwrites it; a skipped layer stores nothing. A path may
    skip layer 0, so the length is a counter, which the wrapper of the last layer advances once per forward. The
    cache owns the rows' actions: reordering (beams) moves paths and slots together, and a decode step never asks the
    policy.

    Attributes:
        slots: by (layer, pass).

    Args:
        layers: the number of layers, which store keys and values, or what makes the slots of each.
        places: as `RunningSlots`.
    """

    layers: RunningSlots  # type: ignore[assignment]  # transformers only reads items

    def __init__(self, layers: int | Sequence[SlotMaker], places: Mapping[int, int] | None = None):
        super().__init__(layers=[])
        self.layers = RunningSlots([KeyValueSlot] * layers if isinstance(layers, int) else layers, places)
        self.num_layers = len(self.layers)
        self.slots = self.layers.made
        self.length = 0
        self.plans: dict[int, RowPlan] = {}
        self._aside: dict[int, Any] = {}

    @property
    def turn(self) -> int:
        """The pass of the layer that is running; set before each call of a layer."""
        return self.layers.turn

    @turn.setter
    def turn(self, turn: int) -> None:
        self.layers.turn = turn

    @property
    def nbytes(self) -> int:
        """Bytes of all keys, values and states."""
        return sum(t.numel() * t.element_size() for slot in self.slots.values() for t in tensors_in(vars(slot)))

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

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether anything was seen: by the layer in this pass, or by any layer."""
        return self.length > 0 if layer_idx is None else super().has_previous_state(layer_idx, state_idx)

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Unbounded."""
        return -1

    def _per_layer_false(self) -> list[bool]:
        return [False] * self.num_layers

    is_sliding = property(_per_layer_false)
    is_linear = property(_per_layer_false)
    is_dummy = property(_per_layer_false)
    is_compileable = property(lambda self: False)
    is_initialized = property(lambda self: self.length > 0)

    @property
    def batch_size(self) -> int:
        """Rows, or -1 before the first forward."""
        return len(next(iter(self.plans.values())).actions) if self.plans else -1

    def __len__(self) -> int:
        return self.num_layers

    @property
    def is_croppable(self) -> bool:
        """Whether tokens can be removed: not where a layer holds a convolution window or a recurrent state."""
        return not any(map(holds_state, self.slots.values()))

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens; transformers passes the number negated.

        Raises:
            ValueError: the number is positive, the cache has fewer tokens, or a layer holds a state.
        """
        removed = -tokens_to_remove
        if not 0 <= removed <= self.length:
            raise ValueError(f"crop takes 0 to -{self.length} for {self.length} tokens held; got {tokens_to_remove}")
        if not removed:
            return
        if not self.is_croppable:
            raise ValueError(
                "this model's layers hold convolution or recurrent states, from which no token can be removed: "
                "generate without speculative decoding or prompt lookup"
            )
        self.length -= removed
        for slot in self.slots.values():
            slot.crop(-removed)

    def reset(self) -> None:
        """Remove everything, the rows' paths included."""
        self.length = 0
        self.plans.clear()
        self.slots.clear()

    def activate_past_recording(self) -> None:
        """Called by speculative decoding; does nothing, because no slot forgets what `crop` needs."""

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the batch rows `indices` [B'], with their slots and paths, in this order."""
        index = torch.as_tensor(indices).cpu()  # one read-back for all layers: the actions are on the CPU
        device = self._device
        for (layer, turn), slot in self.slots.items():
            ran = self.plans[layer].actions > turn  # [B]
            place = ran.cumsum(0) - 1  # of each row among the rows that ran
            slot.reorder_cache(place[index[ran[index]]])
        for layer, plan in self.plans.items():
            self.plans[layer] = RowPlan.of(plan.actions[index], device)

    def set_aside(self, layer: int, rows: Tensor) -> None:
        """Forget what a layer stored for the rows [R]; they run it once more, alone, and then `put_back` joins all."""
        stays = torch.ones(self.batch_size, dtype=torch.bool).index_fill_(0, rows, False)
        for turn in (0, 1):
            slot, ran = self.slots.pop((layer, turn), None), self.plans[layer].actions > turn
            if slot is not None and bool((ran & stays).any()):
                slot.reorder_cache((ran.cumsum(0) - 1)[ran & stays])
                self._aside[turn] = slot
        self.turn = 0

    def put_back(self, layer: int, rows: Tensor) -> None:
        """Join what was set aside of a layer with what the rows [R] stored since, as executed once."""
        before = self.plans[layer].actions
        if (others := self._aside.pop(0, None)) is not None and (layer, 0) in self.slots:
            ran = (before > 0).index_fill(0, rows, False).nonzero()[:, 0]
            order = torch.cat([ran, rows]).argsort()
            self.slots[layer, 0] = joined(others, self.slots[layer, 0], order, self.layers.makers[layer]())
        if (repeated := self._aside.pop(1, None)) is not None:
            self.slots[layer, 1] = repeated
        self.plans[layer] = RowPlan.of(before.index_fill(0, rows, int(LayerAction.EXECUTE)), self._device)

    @property
    def _device(self) -> torch.device:
        """Of the first slot that stores something; the CPU without one."""
        stored = (tensor.device for slot in self.slots.values() for tensor in tensors_in(vars(slot)))
        return next(stored, torch.device("cpu"))

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
