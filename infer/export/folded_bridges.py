"""Bridges folded into the checkpoint of a path: which tensors change, and what the result is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pathgen.bridges.maps import Bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.written import Written

from .divergence import Divergence, measure
from .fold_sums import Change
from .fold_text import LONGEST, FoldText, fold_text
from .folded_path import Fold
from .folding import fold_bridges, foldable_runs
from .output_matrix import output_matrix
from .weights import StoredTensor, read_tensor


@dataclass(frozen=True, slots=True, eq=False)
class FoldedBridges:
    """The outcome of a fold.

    Attributes:
        folds: by layer of the base model.
        changes: by layer, how each was fitted.
        tensors: the changed tensors by their names in the new checkpoint, in their stored form.
        divergence: measured with the tensors as they are stored.
        text: fitted and measured on.
    """

    folds: Mapping[int, Fold]
    changes: Mapping[int, Change]
    tensors: Mapping[str, Tensor]
    divergence: Divergence
    text: FoldText

    def facts(self) -> dict[str, str]:
        """Rows of the model card."""
        rows = {
            f"folded into layer {layer} of the base model": (
                f"`{self.folds[layer].matrix.name}`, "
                f"{'any matrix' if change.form == 'free' else 'a map of its old output'}, ridge {change.ridge:g}, from "
                f"{change.tokens:,} tokens; misses {change.error:.3f} of the wanted change on others, in squares"
            )
            for layer, change in self.changes.items()
        }
        measured = sum(map(len, self.text.measured))
        return rows | {
            "text of the fold": ", ".join(self.text.sources),
            "divergence with the fold": (
                f"nats per position, on {measured:,} held-out tokens of the same sources: {self.divergence}"
            ),
        }


def fold_path(
    model: PathModel,
    bridges: Bridges,
    path: LayerPath,
    tensors: Mapping[str, StoredTensor],
    given: Mapping[str, Sequence[str] | Written],
    tell: Callable[[str], None],
) -> FoldedBridges:
    """Fold the bridges of a path into its checkpoint.

    Args:
        model: the base model in float32 on the CPU, without bridges.
        bridges: of its layers.
        path: one action per layer.
        tensors: of the path's checkpoint, by new names.
        given: texts of the user by source.
        tell: is told what happens.

    Raises:
        InputError: the path or the model has no matrix to fold into.
        PathgenError: the fit is impossible.
    """
    assert model.tokenizer is not None
    runs = {run: output_matrix(model, run.after) for run in foldable_runs(path)}
    names = {run.after: _tensor_name(tensors, path, run.after, matrix.name) for run, matrix in runs.items()}
    own = {layer: read_tensor(tensors[f"{name}.weight"]) for layer, name in names.items()}
    for run, matrix in runs.items():
        if own[run.after].shape != matrix.module.weight.shape:
            raise InputError(f"its file holds {names[run.after]}.weight in another shape than the model")
    text = fold_text(given, model.tokenizer, min(LONGEST, getattr(model.config, "max_position_embeddings", LONGEST)))
    dtypes = {layer: tensor.dtype for layer, tensor in own.items()}
    folds, changes = fold_bridges(model, bridges, path, runs, text.fitted, dtypes, tell)
    changed = {}
    for layer, fold in folds.items():
        changed[f"{names[layer]}.weight"] = fold.weight.T if fold.matrix.transposed else fold.weight
        if fold.bias is not None:
            changed[f"{names[layer]}.bias"] = fold.bias
    tell("measuring the folded path")
    return FoldedBridges(folds, changes, changed, measure(model, path, bridges, folds, text.measured), text)


def _tensor_name(tensors: Mapping[str, StoredTensor], path: LayerPath, layer: int, module: str) -> str:
    """The new name of a module in the last pass of a layer of the base model, without `.weight`.

    Raises:
        InputError: no tensor, or several, have such a name.
    """
    place = sum(path[: layer + 1]) - 1
    ends = f".{place}.{module}.weight"
    found = [name for name in tensors if name.endswith(ends)]
    if len(found) != 1:
        raise InputError(f"its files hold no tensor …{ends} of their own, into which the bridges could go")
    return found[0].removesuffix(".weight")
