"""Rounds soft gates to paths, and turns them into a router."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from pathgen.paths.layer_path import LayerAction, LayerPath

from ..net.config import RouterConfig, allowed_actions
from ..net.router import Router, gate_logits
from .gates import TrainedGates

SKIPPED_AT_MOST = 3
"""A rounded path skips at most L divided by this many layers."""
MAX_REPEATS = 3
REPEAT_ABOVE = 1.05
"""A layer may be repeated if its gate is above this."""
TIE = 0.01
"""Gates that differ by at most this are equal: a neighbour of a skipped layer is skipped first."""
ROUNDING = {LayerAction.SKIP: (0.0, 0.45), LayerAction.EXECUTE: (0.55, 1.45), LayerAction.REPEAT: (1.55, 2.0)}
"""The range of gates that clearly round to each action."""


def round_gates(gates: NDArray[np.floating], pinned: Collection[int] = ()) -> list[LayerPath]:
    """Distinct candidate paths for static gates [L]; choose among them on questions that did not train the gates.

    For each number of skips from 0 to L/3 the layers of the smallest gates are skipped, and the 0 to 3 layers of the
    largest gates above `REPEAT_ABOVE` are repeated. Contiguous skips work better than scattered ones, so ties go to
    neighbours of skipped layers. Paths are ordered by number of skips, then of repeats; the first is the full one.
    Layers of `pinned` always execute once.
    """
    values = np.asarray(gates, dtype=float)
    skip_order = [layer for layer in _skip_order(values) if layer not in pinned]
    repeat_order = [int(layer) for layer in np.argsort(-values, kind="stable") if values[layer] > REPEAT_ABOVE]
    repeat_order = [layer for layer in repeat_order if layer not in pinned]
    paths: list[LayerPath] = []
    for skips in range(min(len(values) // SKIPPED_AT_MOST, len(skip_order)) + 1):
        skipped = skip_order[:skips]
        free = [layer for layer in repeat_order if layer not in skipped]
        for repeats in range(min(MAX_REPEATS, len(free)) + 1):
            actions = np.full(len(values), int(LayerAction.EXECUTE))
            actions[skipped] = LayerAction.SKIP
            actions[free[:repeats]] = LayerAction.REPEAT
            paths.append(LayerPath(actions.tolist()))
    return paths


def gates_router(config: RouterConfig, trained: TrainedGates, path: LayerPath | None = None) -> Router:
    """A router whose argmax rounds the gates.

    Args:
        config: with head `low_rank` of the trained rank and pooling, or `none` for static gates.
        trained: the gates.
        path: each static gate moves just enough to round to this path; None: the gates stay unchanged.

    Raises:
        ValueError: the config does not fit the gates, or the path does not fit the config.
    """
    _check_fit(config, trained, path)
    gates = trained.gates
    if path is not None:
        low, high = np.array([ROUNDING[LayerAction(action)] for action in path], dtype=np.float32).T
        gates = np.clip(gates, low, high)
    router = Router(config)
    with torch.no_grad():
        router.static_logits.copy_(gate_logits(torch.from_numpy(gates)))
    if trained.heads is not None:
        router.heads.load_state_dict(trained.heads)
    return router.requires_grad_(False).eval()


def _skip_order(values: NDArray[np.floating]) -> list[int]:
    """All layers, in the order in which they are skipped."""
    order: list[int] = []
    left = set(range(len(values)))
    while left:
        smallest = min(values[layer] for layer in left)
        tied = [layer for layer in left if values[layer] <= smallest + TIE]
        neighbours = {layer + step for layer in order for step in (-1, 1)}
        order.append(min(tied, key=lambda layer: (layer not in neighbours, values[layer], layer)))
        left.remove(order[-1])
    return order


def _check_fit(config: RouterConfig, trained: TrainedGates, path: LayerPath | None) -> None:
    settings = trained.settings
    head = "none" if trained.heads is None else "low_rank"
    if config.head != head:
        raise ValueError(f"gates of rank {settings.rank} need the head {head}; got {config.head}")
    if trained.heads is not None and (config.width, config.pooling) != (settings.rank, settings.pooling):
        raise ValueError(
            f"the config's width and pooling must be the gates' {settings.rank} and {settings.pooling}; "
            f"got {config.width} and {config.pooling}"
        )
    if trained.heads is not None and not settings.allow_repeat and "repeat" in config.actions:
        raise ValueError("the gates were trained without repeats; the config's actions must leave repeat out")
    if config.num_layers != len(trained.gates) or (path is not None and len(path) != config.num_layers):
        raise ValueError(f"the gates are of {len(trained.gates)} layers; the config's and the path's must be too")
    if path is not None and not set(path) <= set(allowed_actions(config.actions)):
        raise ValueError(f"the path {path} has actions that the config leaves out; it has {', '.join(config.actions)}")
