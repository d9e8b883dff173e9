"""A model along one path whose skipped layers are folded into output matrices of the layers before them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.engine.wrapped.wrapped_model import LayerFunction
from pathgen.paths.layer_path import LayerPath

from .output_matrix import OutputMatrix


@dataclass(frozen=True, slots=True)
class SkippedRun:
    """Layers next to each other that a path skips, and the executed layer before them.

    Attributes:
        after: that layer; -1 if there is none.
        layers: the skipped ones, in order.
    """

    after: int
    layers: range


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """What an output matrix becomes, in the dtype of its file.

    Attributes:
        matrix: the module of the base model.
        weight: [H, I].
        bias: [H]; None where the module has none.
    """

    matrix: OutputMatrix
    weight: Tensor
    bias: Tensor | None


def skipped_runs(path: LayerPath) -> list[SkippedRun]:
    """The runs of skipped layers, the first one first."""
    found, executed = [], -1
    for layer, action in enumerate(path):
        if action:
            if layer > executed + 1:
                found.append(SkippedRun(executed, range(executed + 1, layer)))
            executed = layer
    if executed + 1 < len(path):
        found.append(SkippedRun(executed, range(executed + 1, len(path))))
    return found


def folded(model: PathModel, path: LayerPath, folds: Mapping[int, Fold]) -> LayerFunction:
    """A mode of the model: the path, with folded matrices in the last pass of the layers that have a fold."""

    def run(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        for left in reversed(range(path[index])):
            fold = None if left else folds.get(index)
            with fold.matrix.replaced(fold.weight, fold.bias) if fold else nullcontext():
                hidden = model.run_layer(index, hidden, args, kwargs)
        return model.as_returned(index, hidden)

    return run


@torch.inference_mode()
def folded_logits(model: PathModel, path: LayerPath, folds: Mapping[int, Fold], ids: Tensor) -> Tensor:
    """[B, T, V] logits of rows [B, T] without padding."""
    with model.mode(folded(model, path, folds)):
        logits: Tensor = model.hf_model(**forward_inputs(ids, torch.ones_like(ids))).logits
    return logits
