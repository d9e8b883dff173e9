"""Models that can run along paths: finds their decoder layers, and takes rows of the layers' arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import KVSharingDict

from ..errors import InputError
from .probe.arguments import RowAxes, RowAxis

logger = logging.getLogger(__name__)

ATTENTION_KINDS = {"full_attention", "sliding_attention", "chunked_attention", "indexed_attention"}
"""The last one reads the keys that its indexer picks: while a row has no more than it may pick, all of them."""
HYBRID_KINDS = {"linear_attention", "conv", "hybrid", "hybrid_sliding", "mlp", "moe"}
"""Layers with a convolution window, a recurrent state, both beside attention, or nothing to store."""


class UnsupportedModelError(InputError):
    """The model family cannot be run along paths."""


class PinnedLayerError(InputError, ValueError):
    """A path skips or repeats a layer whose keys and values other layers read."""


def find_layers(hf_model: Any) -> list[nn.Module]:
    """The decoder layers in order: the only list of modules with attention that the decoder holds.

    They are of one class, but for hybrids, whose config lists the kinds of their layers. Where the decoder holds
    several lists, those of `num_hidden_layers` count. Layers that attend to images alone are left out: a forward on
    text passes them by.

    Raises:
        UnsupportedModelError: the model has no such layers; the message names its class and the reason.
    """
    name, config = type(hf_model).__name__, hf_model.config.get_text_config()
    if hf_model.config.is_encoder_decoder:
        raise UnsupportedModelError(f"{name}: encoder-decoder models are not supported")
    if needed := _needed(hf_model.forward):
        raise UnsupportedModelError(f"{name}: it does not run on text alone: its forward needs {', '.join(needed)}")
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - ATTENTION_KINDS - HYBRID_KINDS:
        raise UnsupportedModelError(f"{name}: layers of kind {', '.join(sorted(unknown))} are not supported")
    expected = config.num_hidden_layers
    of_images = set(getattr(config, "cross_attention_layers", None) or ())
    for part in (hf_model, hf_model.get_decoder()):
        stacks = list(_stacks(part, of_one_class=not kinds & HYBRID_KINDS and not of_images))
        if right := [stack for stack in stacks if len(stack) == expected]:
            stacks = right
        if len(stacks) == 1:
            break
    else:
        raise UnsupportedModelError(
            f"{name}: expected one stack of {expected} equal decoder layers, found {len(stacks) or 'none'}"
        )
    if not any("past_key_values" in signature(part.forward).parameters for part in (hf_model, hf_model.base_model)):
        raise UnsupportedModelError(
            f"{name}: its forward takes no `past_key_values`: its cache is of a kind of its own"
        )
    return [layer for number, layer in enumerate(stacks[0]) if number not in of_images]


def _needed(forward: Callable[..., Any]) -> list[str]:
    """The arguments that a forward cannot do without, beside the ids."""
    return [
        name
        for name, one in signature(forward).parameters.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and name != "input_ids"
    ]


def _stacks(part: nn.Module, *, of_one_class: bool) -> Iterator[nn.ModuleList]:
    """The lists of modules, all of one class if so asked, whose parts know the number of their layer."""
    for module in part.modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if of_one_class and len({type(layer) for layer in module}) != 1:
            continue
        if any(hasattr(inner, "layer_idx") or hasattr(inner, "layer_id") for inner in module[0].modules()):
            yield module


def layer_places(layers: Sequence[nn.Module]) -> dict[int, int] | None:
    """The place of each layer, by the number under which it asks a cache; None unless layers were left out."""
    places = {}
    for place, layer in enumerate(layers):
        numbers = (getattr(part, name, None) for part in layer.modules() for name in ("layer_idx", "layer_id"))
        places[next((number for number in numbers if isinstance(number, int)), place)] = place
    return places if max(places) >= len(layers) else None


def pinned_layers(layers: Sequence[nn.Module]) -> tuple[int, ...]:
    """The layers that always execute once, because later layers read their keys and values."""
    return tuple(
        index
        for index, layer in enumerate(layers)
        if any(getattr(part, "store_full_length_kv", False) for part in layer.modules())
    )


def find_head(hf_model: Any) -> nn.Module:
    """The layer from the last states to the vocabulary; one whose scores stay in a narrow dtype is told.

    Raises:
        UnsupportedModelError: the model has none.
    """
    head, name = hf_model.get_output_embeddings(), type(hf_model).__name__
    if head is None and (decoder := hf_model.get_decoder()) is not hf_model:  # a whole causal model inside
        head = decoder.get_output_embeddings()
    if head is None:
        raise UnsupportedModelError(f"{name}: it has no head over the vocabulary")
    if type(head) is not nn.Linear:
        kind, dtype = type(head).__name__, str(hf_model.dtype).removeprefix("torch.")
        logger.warning(
            "%s: its head is a %s, no plain linear layer; its scores stay as it gives them (%s)", name, kind, dtype
        )
    return head


def take_rows(value: Any, rows: Tensor, batch: int, axes: RowAxes | None = None, place: str = "") -> Any:
    """Take rows of every tensor with two or more dimensions, the batch first, also inside tuples and dicts.

    A first dimension of 1 broadcasts and stays unchanged, as does everything else (flags, None, the cache). `axes` are
    the exceptions of a model, by place in `value`, which is then (args, kwargs).
    """
    if isinstance(value, Tensor):
        if axes and place in axes:
            return _along_axis(value, rows.to(value.device), batch, axes[place])
        return value[rows.to(value.device)] if value.dim() > 1 and value.shape[0] == batch > 1 else value
    if isinstance(value, (tuple, list)):
        if not axes:  # of most models: no places to tell apart
            return type(value)([take_rows(part, rows, batch) for part in value])
        return type(value)([take_rows(part, rows, batch, axes, _inside(place, key)) for key, part in enumerate(value)])
    if isinstance(value, dict):
        if not axes:
            return {key: take_rows(part, rows, batch) for key, part in value.items()}
        return {key: take_rows(part, rows, batch, axes, _inside(place, key)) for key, part in value.items()}
    if isinstance(value, KVSharingDict):
        return KVSharingDict({key: take_rows(tuple(pair), rows, batch) for key, pair in value.items()})
    return value


def _inside(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _along_axis(value: Tensor, rows: Tensor, batch: int, axis: RowAxis) -> Tensor:
    if axis is None or value.dim() <= axis[0] or value.shape[axis[0]] != batch * axis[1]:
        return value
    copies = torch.arange(axis[1], device=rows.device)
    return value.index_select(axis[0], (rows[:, None] * axis[1] + copies).flatten())


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]
