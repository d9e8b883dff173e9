"""Loads a frozen model by name onto a device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..errors import InputError, memory_told
from .devices import DTYPES, is_slow_on_cpu
from .reading import load_tokenizer, load_weights
from .resolving import resolve_model

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    name: str, *, dtype: str = "float32", device: str = "cpu", device_map: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The frozen Hugging Face model in eval mode, and its tokenizer.

    Args:
        name: alias, folder or hub id.
        dtype: one of DTYPES.
        device: a torch device; ignored with a `device_map`.
        device_map: as in transformers, for a model larger than one device.

    Raises:
        InputError: as `resolve_model` and `load_weights`, for an unknown dtype or an unusable device, and if the
            device map `auto` leaves parts of the model on no GPU.
        PathgenError: the device has too little memory.
    """
    import torch

    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: use {', '.join(DTYPES)}")
    target = _usable_device(device)
    if target.type == "cpu" and device_map is None and is_slow_on_cpu(dtype):
        logger.warning("this CPU has no %s instructions: --dtype float32 is several times faster here", dtype)
    folder = resolve_model(name)
    with memory_told("a narrower --dtype, or another --device"):
        model = load_weights(folder, dtype=getattr(torch, dtype), device_map=device_map, use_safetensors=True)
        if device_map is None:
            model = model.to(target)  # type: ignore[arg-type]
        elif device_map == "auto":
            _refuse_spilled(model, name)
    model.eval().requires_grad_(False)
    return model, load_tokenizer(folder)


def _usable_device(device: str) -> torch.device:
    """The device, if it is of a supported kind and this machine has it."""
    import torch

    try:
        target = torch.device(device)
    except RuntimeError:
        target = None
    if target is None or target.type not in ("cpu", "cuda"):
        raise InputError(f"device {device!r} cannot be used: give cpu, cuda or cuda:N")
    if target.type == "cuda" and (target.index or 0) >= (count := torch.cuda.device_count()):
        seen = f"{count or 'no'} CUDA device{'s' * (count > 1)}"
        raise InputError(f"device {device!r} is not available: torch sees {seen} here")
    return target


def _refuse_spilled(model: PreTrainedModel, name: str) -> None:
    """Refuse parts in main memory or on disk, because no GPU had room: each forward would copy them."""
    places = getattr(model, "hf_device_map", {})  # absent if one GPU holds the whole model
    spilled = [part for part, place in places.items() if str(place) in ("cpu", "disk")]
    if spilled:
        raise InputError(
            f"model {name!r} does not fit the GPUs of one actor: no room for {len(spilled)} parts from {spilled[0]}; "
            "raise --gpus-per-actor"
        )
