"""Fits, run by run, the output matrices that take up what the layers skipped after them would have done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from pathgen.bridges.maps import Bridges
from pathgen.engine.padded_rows import masked
from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.errors import InputError, PathgenError
from pathgen.paths.layer_path import LayerPath

from .fold_sums import Change, FoldSums
from .folded_path import Fold, SkippedRun, folded, skipped_runs
from .output_matrix import OutputMatrix

BATCH_TOKENS = 4096
"""Tokens of a forward, padding included."""
CHOSEN_ON = 5
"""Every fifth batch is left out of the fit, to choose the form and the penalty on."""


def foldable_runs(path: LayerPath) -> list[SkippedRun]:
    """The path's runs of skipped layers, each after an executed one.

    Raises:
        InputError: the path skips nothing, or its first layer.
    """
    runs = skipped_runs(path)
    if not runs:
        raise InputError("the path skips no layer, so no bridge runs along it; export it without --bridges")
    if runs[0].after < 0:
        raise InputError(
            "the path skips its first layer, so no MLP before it could take up the bridges; export it without "
            "--bridges, or run the bridged path here"
        )
    return runs


def fold_bridges(
    model: PathModel,
    bridges: Bridges,
    path: LayerPath,
    runs: Mapping[SkippedRun, OutputMatrix],
    rows: Sequence[Sequence[int]],
    stored: Mapping[int, torch.dtype],
    tell: Callable[[str], None],
) -> tuple[dict[int, Fold], dict[int, Change]]:
    """The folded matrices of a path by layer, and what each was fitted to.

    The runs are fitted one after the other, each on the states that the matrices before it give.

    Args:
        model: the base model, without bridges.
        bridges: of its layers.
        path: one action per layer.
        runs: of `foldable_runs`, each with the matrix of the layer before it.
        rows: token ids to fit on.
        stored: dtype of each layer's matrix in its file, to which the new one is rounded.
        tell: is told each run.

    Raises:
        PathgenError: a state is not finite, or there is too little text.
    """
    folds: dict[int, Fold] = {}
    changes: dict[int, Change] = {}
    for run, matrix in runs.items():
        tell(f"folding layers {run.layers[0]} to {run.layers[-1]} into {matrix.name} of layer {run.after}")
        width, inner = matrix.weight.shape
        fitted, held = (FoldSums.empty(inner, width, bias=matrix.has_bias) for _ in range(2))
        for number, part in enumerate((rows[::CHOSEN_ON], [r for n, r in enumerate(rows) if n % CHOSEN_ON])):
            for batch in _batches(part):
                try:
                    (fitted if number else held).add(*_wanted(model, bridges, path, folds, run, matrix, batch))
                except ValueError as error:
                    raise PathgenError(f"the fold of layers {run.layers[0]} to {run.layers[-1]}: {error}") from error
        change = fitted.best_change(matrix.weight.cpu(), held)
        weight = matrix.weight.cpu().double() + change.weight
        bias = None if change.bias is None else matrix.module.bias.cpu().double() + change.bias
        dtype = stored[run.after]
        folds[run.after] = Fold(matrix, weight.to(dtype), None if bias is None else bias.to(dtype))
        changes[run.after] = change
    return folds, changes


@torch.inference_mode()
def _wanted(
    model: PathModel,
    bridges: Bridges,
    path: LayerPath,
    folds: Mapping[int, Fold],
    run: SkippedRun,
    matrix: OutputMatrix,
    rows: Sequence[Sequence[int]],
) -> tuple[Tensor, Tensor]:
    """[n, I] inner activations before the matrix, and the [n, H] changes that it should give on top of its own."""
    ids, mask = masked(rows, model.device)
    along, inner, states = folded(model, path, folds), list[Tensor](), list[Tensor]()

    def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if index > run.after:
            return model.as_returned(index, hidden)
        with matrix.watched(inner) if index == run.after else nullcontext():
            out = along(index, hidden, *args, **kwargs)
        if index == run.after:
            states.append(out[0] if isinstance(out, tuple) else out)
        return out

    with model.mode(watch):
        model.run_body(**forward_inputs(ids, mask))
    before = bridged = states[0][mask.bool()]
    for layer in run.layers:
        bridged = bridges.maps[layer].apply(bridged)
    # A repeated layer's last pass is the one that is folded. Some models flatten the batch before their MLP.
    return inner[-1].reshape(*mask.shape, -1)[mask.bool()], (bridged - before) / matrix.scale


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """The rows, sorted by length, in batches of about BATCH_TOKENS tokens."""
    batch: list[Sequence[int]] = []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
