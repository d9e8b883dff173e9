"""A device as benchmarks see it: when its work is done, what it holds, what it is. On a CPU there is little to do."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def begin_peak(device: torch.device) -> int | None:
    """Measure the peak from here on; returns the bytes allocated now, None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def peak_bytes(device: torch.device) -> int | None:
    """The most bytes that tensors took since `begin_peak`; None on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def release(device: torch.device) -> None:
    """Give back the memory of objects that nothing refers to any more, those in circles included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def without_cudnn_attention(device: torch.device) -> Iterator[None]:
    """Within the block, attention does not run by cuDNN, which plans anew for every shape that it has not met."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(before)


def describe(device: torch.device) -> dict[str, Any]:
    """What the device is, and what drives it."""
    if device.type != "cuda":
        return {"type": device.type}
    found = torch.cuda.get_device_properties(device)
    return {
        "type": device.type,
        "name": found.name,
        "memory_bytes": found.total_memory,
        "multiprocessors": found.multi_processor_count,
        "capability": [found.major, found.minor],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
