"""Routers for a model on disk, as the harness's tests need them."""

from __future__ import annotations

from pathlib import Path

import torch

from pathgen.models.facts import fingerprint, num_layers
from pathgen.paths.layer_path import LayerPath
from router.net.config import RouterConfig
from router.net.router import Router, path_logits
from router.saved.folder import save_router

HIDDEN = 32


def full_router(model: Path, folder: Path, hidden_size: int = HIDDEN) -> Path:
    """A router that executes every layer once."""
    router = _router(model, hidden_size, head="none")
    with torch.no_grad():
        router.static_logits.copy_(path_logits(LayerPath.full(router.config.num_layers)))
    save_router(router, folder)
    return folder


def mixed_router(model: Path, folder: Path, *, seed: int = 3) -> Path:
    """A router of random heads, sharp enough that prompts take different paths."""
    torch.manual_seed(seed)
    router = _router(model, HIDDEN, head="bottleneck", width=8)
    with torch.no_grad():
        for head in router.heads:
            head.down.weight.mul_(5)
            head.up.weight.mul_(5)
    save_router(router, folder)
    return folder


def _router(model: Path, hidden_size: int, **changes) -> Router:
    return Router(
        RouterConfig(
            base_model=str(model),
            base_fingerprint=fingerprint(model),
            num_layers=num_layers(model),
            hidden_size=hidden_size,
            tasks=("arc",),
            method="by hand",
            **changes,
        )
    )
