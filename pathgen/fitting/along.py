"""Bridges refitted along a path: each on the states that reach it there, toward full depth's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..bridges.maps import Bridge
from ..bridges.sums import LayerSums
from ..engine.path_model import PathModel
from ..paths.layer_path import LayerAction, LayerPath
from .states import Residuals, batch_inputs
from .text import Piece

Seen = list[tuple[Tensor, Tensor]]
"""Per batch, [n, H] states that reach a skipped layer along the path, and what leaves it at full depth."""


@torch.inference_mode()
def walk(
    model: PathModel,
    batches: Sequence[Sequence[Piece]],
    path: LayerPath,
    bridge_at: Callable[[int, Seen], Bridge],
    on_layer: Callable[[int], None] = lambda layer: None,
) -> None:
    """Run texts at full depth and along a path, layer by layer and all batches together.

    `bridge_at` gets the states at each skipped layer, in order, and returns the bridge that runs there. The states of
    all tokens are held: two of [H] each per token.
    """
    device = model.device
    inputs = [batch_inputs(model, pieces) for pieces in batches]
    started = [(*model.capture(**given), tokens) for given, tokens in inputs]
    full = [hidden for hidden, _, _ in started]
    along = list(full)
    last = max(layer for layer, action in enumerate(path) if action == LayerAction.SKIP)
    for layer, action in enumerate(path[: last + 1]):
        seen: Seen = []
        for index, (_, calls, tokens) in enumerate(started):
            args, kwargs = calls[layer]
            before, whole = along[index], full[index]
            full[index] = model.run_layer(layer, whole, args, kwargs)
            if action == LayerAction.SKIP:
                text = tokens.to(before.device)
                seen.append((before[text], full[index][text.to(full[index].device)].to(before.device)))
                continue
            once = full[index] if before is whole else model.run_layer(layer, before, args, kwargs)
            repeats = action == LayerAction.REPEAT
            along[index] = model.run_layer(layer, once, args, kwargs) if repeats else once
        if action == LayerAction.SKIP:
            bridge = bridge_at(layer, seen).to(device, model.hf_model.dtype)
            along = [bridge.apply(hidden) for hidden in along]
        on_layer(layer)


def refit(
    model: PathModel,
    batches: Sequence[Sequence[Piece]],
    path: LayerPath,
    rank: int | None,
    ridge: float,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> dict[int, Bridge]:
    """The bridges of a path's skipped layers, each fitted on the states that reach it along the path.

    The target is what leaves the layer at full depth, so later bridges correct the errors of earlier ones.
    """
    found: dict[int, Bridge] = {}

    def fit(layer: int, seen: Seen) -> Bridge:
        sums = LayerSums.empty(model.config.hidden_size)
        for before, after in seen:
            sums.add(before, after)
        found[layer] = sums.solve(rank, ridge)
        return found[layer]

    walk(model, batches, path, fit, on_layer)
    return found


def explained_along(
    model: PathModel, batches: Sequence[Sequence[Piece]], path: LayerPath, bridges: dict[int, Bridge]
) -> dict[int, float]:
    """R² of the bridges of a path's skipped layers on the states that reach them along the path."""
    found: dict[int, float] = {}

    def measure(layer: int, seen: Seen) -> Bridge:
        residuals = Residuals()
        for before, after in seen:
            residuals.add(bridges[layer], before, after)
        found[layer] = residuals.r2
        return bridges[layer]

    walk(model, batches, path, measure)
    return found
