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


def flops_ratio(model: PathModel, folder: Path) -> Callable[[LayerPath], float]:
    """FLOPs per token of the layers that run, and of the bridges where a path skips, over those of all layers.

    A layer costs two for each parameter that a token uses; a bridge of rank r and width H costs 4·r·H, or 2·H² if it
    is whole.
    """
    parameters = layer_parameters(folder, model.num_layers)
    if not all(parameters):  # the tensors' names do not tell the layers apart
        parameters = [float(sum(part.numel() for part in layer.parameters())) for layer in model.layers]
    bridges = [0.0] * model.num_layers
    if model.bridges is not None:
        bridges = [
            float(bridge.down.numel() + (0 if bridge.up is None else bridge.up.numel()))
            for bridge in model.bridges.maps
        ]

    def ratio(path: LayerPath) -> float:
        used = [
            action * layer if action else bridge
            for action, layer, bridge in zip(path, parameters, bridges, strict=True)
        ]
        return math.fsum(used) / math.fsum(parameters)

    return ratio
