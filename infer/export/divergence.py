"""How far an exported model is from full depth, beside the bridged path and the plain one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pathgen.bridges.maps import Bridges
from pathgen.engine.logprobs import divergence
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import PathgenError
from pathgen.paths.layer_path import LayerPath

from .folded_path import Fold, folded_logits


@dataclass(frozen=True, slots=True)
class Divergence:
    """Mean Kullback–Leibler divergences in nats per position, on text that nothing was fitted on here.

    Attributes:
        plain: KL(full depth ‖ the path with plain skips).
        bridged: KL(full depth ‖ the bridged path).
        exported: KL(full depth ‖ the exported model).
        from_bridged: KL(the bridged path ‖ the exported model).
    """

    plain: float
    bridged: float
    exported: float
    from_bridged: float

    def __str__(self) -> str:
        return (
            f"from full depth: plain skips {self.plain:.3g}, bridged path {self.bridged:.3g}, exported "
            f"{self.exported:.3g}; exported from the bridged path {self.from_bridged:.3g}"
        )

    def check(self, most: float) -> None:
        """Refuse an export that is `most` times as far from full depth as the bridged path, or no nearer than plain.

        Raises:
            PathgenError: with the figures.
        """
        remedy = "export the plain path without --bridges, or run the bridged path here"
        if not self.exported < self.plain:  # also for NaN
            raise PathgenError(f"the fold would not be better than plain skips (nats {self}); {remedy}")
        if not self.exported <= most * self.bridged:
            raise PathgenError(
                f"the fold would be {self.exported / max(self.bridged, 1e-12):.3g} times as far from full depth as the "
                f"bridged path, more than --max-divergence-ratio {most:g} (nats {self}); {remedy}"
            )


def kl(reference: Tensor, other: Tensor) -> Tensor:
    """[T] KL(reference ‖ other) in nats of the logits [T, V] of two runs."""
    return divergence(reference.log_softmax(-1), other.log_softmax(-1))


@torch.inference_mode()
def measure(
    model: PathModel, path: LayerPath, bridges: Bridges, folds: Mapping[int, Fold], rows: Sequence[Sequence[int]]
) -> Divergence:
    """The divergences on rows of token ids; every position counts the same.

    Args:
        model: the base model, without bridges.
        path: the exported path.
        bridges: that run where it skips.
        folds: by layer.
        rows: of text that the folds were not fitted on.
    """
    total, tokens = torch.zeros(4, dtype=torch.float64), 0
    policies = FixedPaths([LayerPath.full(len(path))]), FixedPaths([path])
    for row in rows:
        ids = torch.tensor([row])
        full, plain = (model.logits(ids, policy=policy)[0] for policy in policies)
        with model.bridged(bridges):
            bridged = model.logits(ids, policy=policies[1])[0]
        exported = folded_logits(model, path, folds, ids)[0]
        pairs = (full, plain), (full, bridged), (full, exported), (bridged, exported)
        total += torch.stack([kl(*pair).double().sum() for pair in pairs])
        tokens += len(row)
    return Divergence(*(total / tokens).tolist())
