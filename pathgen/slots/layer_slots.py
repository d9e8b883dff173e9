"""What one (layer, pass) stores: keys and values, and what else transformers' own cache layer of that kind holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
    get_layer_types_and_kwargs,
)

GROW_TOKENS = 32
GROW_SHARE = 8
"""A full slot grows by 32 tokens or by 1/8, the larger of the two: decode appends in place, at little extra memory."""

Content = dict[tuple[str, int], Tensor]
"""What a slot holds: [R, ...] tensors, or without R for one row. Names are (`keys`, 0) and (`values`, 0),
[R, heads, tokens, head_dim] each; (`indexer`, 0), [R, tokens, dim], the keys of a sparse indexer; and (`conv`, i) and
(`recurrent`, i), the states after the last token."""
TOKEN_PARTS = ("keys", "values", "indexer")


class KeyValueSlot:
    """Keys and values: [R, heads, tokens, head_dim] for the R rows that ran, in batch order.

    It has the methods of transformers' `DynamicLayer`, but grows in place. It holds all tokens for sliding-window
    layers too; the masks apply the window.
    """

    def __init__(self) -> None:
        self.used = 0
        self.store: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
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

    @property
    def is_initialized(self) -> bool:
        """Whether anything was stored."""
        return self.store is not None

    @property
    def keys(self) -> Tensor | None:
        """All keys so far, as a view."""
        return None if self.store is None else self.store[0][:, :, : self.used]

    def _grow(self, room: int) -> None:
        assert self.store is not None
        grown = tuple(old.new_empty(*old.shape[:2], room, old.shape[3]) for old in self.store)
        for new, old in zip(grown, self.store, strict=True):
            new[:, :, : self.used] = old[:, :, : self.used]
        self.store = (grown[0], grown[1])

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.used

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens."""
        self.used += tokens_to_remove

    def reorder_cache(self, index: Tensor) -> None:
        """Keep the rows `index` [R'] of the stored rows, in this order."""
        assert self.store is not None
        index = index.to(self.store[0].device, non_blocking=True)
        self.store = (self.store[0][index], self.store[1][index])


SlotMaker = Callable[[], Any]
"""Makes an empty slot: a `KeyValueSlot`, or a layer of transformers' cache."""


def slot_makers(config: Any, num_layers: int) -> list[SlotMaker]:
    """One maker per layer, of the kind that transformers' own cache has for this config."""
    if not getattr(config, "layer_types", None):
        return [KeyValueSlot] * num_layers
    makers: list[SlotMaker] = []
    for kind, settings in zip(*get_layer_types_and_kwargs(config), strict=True):
        layer_class = DYNAMIC_LAYER_TYPE_MAPPING[kind]
        if layer_class in (DynamicLayer, DynamicSlidingWindowLayer):
            makers.append(KeyValueSlot)
            continue
        if layer_class is LinearAttentionAndSlidingWindowAttentionLayer:  # all tokens, as `KeyValueSlot`
            layer_class, settings = LinearAttentionAndFullAttentionLayer, settings | {"sliding_window": None}
        makers.append(_maker(layer_class, settings))
    return makers + [KeyValueSlot] * (num_layers - len(makers))  # layers that read the keys of others store nothing


def _maker(layer_class: type, settings: dict[str, Any]) -> SlotMaker:
    return lambda: layer_class(**settings)


def stores(slot: Any) -> bool:
    """Whether a layer with this slot stores anything: one without attention or a state does not."""
    return not isinstance(slot, DummyLayer)


def holds_state(slot: Any) -> bool:
    """Whether a slot holds a convolution window or a recurrent state, from which no token can be taken away."""
    return isinstance(slot, LinearAttentionCacheLayerMixin)


def has_seen(slot: Any, tokens: int) -> bool:
    """Whether a slot stored this many tokens, or, if it holds no tokens, a state."""
    if hasattr(slot, "get_seq_length"):
        return bool(slot.get_seq_length() == tokens)
    return any(slot.has_previous_state.values())


def content(slot: Any) -> Content:
    """What a slot holds, without copies."""
    if isinstance(slot, KeyValueSlot):
        keys, values = (part[:, :, : slot.used] for part in slot.store or ())
        return {("keys", 0): keys, ("values", 0): values}
    found: Content = {}
    if getattr(slot, "keys", None) is not None:
        found |= {("keys", 0): slot.keys, ("values", 0): slot.values}
    if getattr(slot, "indexer_keys", None) is not None:
        found["indexer", 0] = slot.indexer_keys
    for name in ("conv", "recurrent"):
        for index, state in getattr(slot, f"{name}_states", {}).items():
            if state is not None:
                found[name, index] = state
    return found


def filled(slot: Any, parts: Content) -> Any:
    """The empty slot, filled by its own methods with this content."""
    if ("keys", 0) in parts:
        slot.update(parts["keys", 0], parts["values", 0])
    for (name, index), state in parts.items():
        if name == "conv":
            slot.update_conv_state(state, index)
        elif name == "recurrent":
            slot.update_recurrent_state(state, index)
        elif name == "indexer":
            slot.update_indexer(state)
    return slot


def joined(first: Any, second: Any, order: Tensor, empty: Any) -> Any:
    """The empty slot, filled with the rows of two slots: of the first's and then the second's, those at `order` [R]."""
    parts, more = content(first), content(second)
    return filled(empty, {name: torch.cat([part, more[name]])[order.to(part.device)] for name, part in parts.items()})


def batched(rows: Sequence[Content], tokens: Sequence[int], width: int, from_end: bool) -> Content:
    """The contents of rows as one batch, with each row's tokens padded on the left to `width`.

    Args:
        rows: the content of each row; a row without any is empty, and becomes zeros.
        tokens: of each row's keys and values that belong to it.
        width: tokens of the batch.
        from_end: whether these are a row's last tokens, else its first.
    """
    example = max(rows, key=len)
    return {
        name: _batch(
            [row.get(name) for row in rows], part, (tokens, width, from_end) if name[0] in TOKEN_PARTS else None
        )
        for name, part in example.items()
    }


def _batch(rows: list[Tensor | None], like: Tensor, spans: tuple[Sequence[int], int, bool] | None) -> Tensor:
    if spans is None:
        together = like.new_zeros(len(rows), *like.shape)
        for place, row in enumerate(rows):
            if row is not None:
                together[place] = row
        return together
    tokens, width, from_end = spans
    together = like.new_zeros(len(rows), *like.shape[:-2], width, like.shape[-1])
    for place, (row, count) in enumerate(zip(rows, tokens, strict=True)):
        if row is not None:
            start = row.shape[-2] - count if from_end else 0
            together[place, ..., width - count :, :] = row[..., start : start + count, :]
    return together
