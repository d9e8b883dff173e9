"""FLOPs of paths, with the bridges where they skip."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.facts import layer_parameters
from ..paths.layer_path import LayerPath

if TYPE_CHECKING:
    from ..engine.path_model import PathModel


def layer_weights(model: PathModel, folder: Path) -> list[float]:
    """[L] weights of each layer that a token uses: of a mixture's experts, only those that it is routed to.

    Where the names of the folder's tensors do not tell the layers apart, all weights of a layer count.
    """
    weights = layer_parameters(folder, model.num_layers)
    if all(weights):
        return weights
    return [float(sum(part.numel() for part in layer.parameters())) for layer in model.layers]


def flops_ratio(model: PathModel, folder: Path) -> Callable[[LayerPath], float]:
    """FLOPs per token of the layers that run, and of the bridges where a path skips, over those of all layers.

    Each weight of a layer or bridge that a token uses costs two; a bridge of rank r and width H has 2·r·H + H, a whole
    one H² + H.
    """
    layers = layer_weights(model, folder)
    bridges = [float(bridge.parameters) for bridge in model.bridges.maps] if model.bridges else [0.0] * len(layers)

    def ratio(path: LayerPath) -> float:
        used = [
            action * layer if action else bridge for action, layer, bridge in zip(path, layers, bridges, strict=True)
        ]
        return math.fsum(used) / math.fsum(layers)

    return ratio
