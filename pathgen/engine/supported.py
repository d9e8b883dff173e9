"""Models that can run along paths: finds their decoder layers, and takes rows of the layers' arguments."""

from __future__ import annotations

import logging
from inspect import signature
from typing import Any

from torch import Tensor, nn

from ..errors import InputError

logger = logging.getLogger(__name__)

ATTENTION_KINDS = {"full_attention", "sliding_attention"}
HYBRID_KINDS = {"linear_attention", "conv", "hybrid", "hybrid_sliding", "mlp", "moe"}
"""Layers with a convolution window, a recurrent state, both beside attention, or nothing to store."""


class UnsupportedModelError(InputError):
    """The model family cannot be run along paths."""


def find_layers(hf_model: Any) -> list[nn.Module]:
    """The decoder layers in order: the only list of `num_hidden_layers` modules with attention.

    They are of one class, but for hybrids, whose config lists the kinds of their layers.

    Raises:
        UnsupportedModelError: the model has no such layers; the message names its class and the reason.
    """
    name, config = type(hf_model).__name__, hf_model.config.get_text_config()
    if hf_model.config.is_encoder_decoder:
        raise UnsupportedModelError(f"{name}: encoder-decoder models are not supported")
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - ATTENTION_KINDS - HYBRID_KINDS:
        raise UnsupportedModelError(f"{name}: layers of kind {', '.join(sorted(unknown))} are not supported")
    if getattr(config, "num_kv_shared_layers", 0):
        raise UnsupportedModelError(f"{name}: layers that share keys and values cannot be skipped on their own")
    stacks = [
        module
        for module in hf_model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == config.num_hidden_layers
        and (kinds & HYBRID_KINDS or len({type(layer) for layer in module}) == 1)
        and any(hasattr(part, "layer_idx") for part in module[0].modules())
    ]
    if len(stacks) != 1:
        expected, found = config.num_hidden_layers, len(stacks) or "none"
        raise UnsupportedModelError(f"{name}: expected one stack of {expected} equal decoder layers, found {found}")
    if "past_key_values" not in signature(type(hf_model).forward).parameters:
        raise UnsupportedModelError(
            f"{name}: its forward takes no `past_key_values`: its cache is of a kind of its own"
        )
    return list(stacks[0])


def find_head(hf_model: Any) -> nn.Module:
    """The layer from the last states to the vocabulary; one whose scores stay in a narrow dtype is told.

    Raises:
        UnsupportedModelError: the model has none.
    """
    head, name = hf_model.get_output_embeddings(), type(hf_model).__name__
    if head is None:
        raise UnsupportedModelError(f"{name}: it has no head over the vocabulary")
    if type(head) is not nn.Linear:
        kind, dtype = type(head).__name__, str(hf_model.dtype).removeprefix("torch.")
        logger.warning(
            "%s: its head is a %s, no plain linear layer; its scores stay as it gives them (%s)", name, kind, dtype
        )
    return head


def take_rows(value: Any, rows: Tensor, batch: int) -> Any:
    """Take rows of every tensor with two or more dimensions, the batch first, also inside tuples and dicts.

    A first dimension of 1 broadcasts and stays unchanged, as does everything else (flags, None, the cache).
    """
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.dim() > 1 and value.shape[0] == batch > 1 else value
    if isinstance(value, (tuple, list)):
        return type(value)(take_rows(part, rows, batch) for part in value)
    if isinstance(value, dict):
        return {key: take_rows(part, rows, batch) for key, part in value.items()}
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]
