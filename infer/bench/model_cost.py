"""The floating-point work of answers, relative to full depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pathgen.bridges.maps import Bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Prepared
from pathgen.static.flops import layer_weights

from .answers import Effort


@dataclass(frozen=True, slots=True, eq=False)
class ModelCost:
    """Work in weights used: a token uses the weights of each layer and bridge it runs, a scored position the head's.

    A question counts the same tokens for every system, so a shorter answer saves nothing here.

    Attributes:
        layers: [L] number of weights of each layer that a token uses.
        bridges: [L] number of weights of what runs where a path skips each layer; 0 without bridges.
        head: number of weights of the head.
        tokens: [N] tokens of each question.
        scored: [N] positions of each question that the head scores.
    """

    layers: NDArray[np.float64]
    bridges: NDArray[np.float64]
    head: float
    tokens: NDArray[np.float64]
    scored: NDArray[np.float64]

    @classmethod
    def of(cls, model: PathModel, folder: Path, prepared: Sequence[Prepared]) -> ModelCost:
        """The cost of these questions on the model of this folder, without bridges."""
        head = model.hf_model.get_output_embeddings()
        return cls(
            np.array(layer_weights(model, folder)),
            np.zeros(model.num_layers),
            float(sum(weights.numel() for weights in head.parameters())) if head is not None else 0.0,
            np.array([sum(len(row) for row in entry.rows) for entry in prepared], dtype=float),
            np.array([sum(len(row.scored) for row in entry.rows) for entry in prepared], dtype=float),
        )

    def over(self, bridges: Bridges | None) -> ModelCost:
        """The same with these bridges where a path skips; None: none."""
        if bridges is None:
            return replace(self, bridges=np.zeros_like(self.layers))
        return replace(self, bridges=np.array([bridge.parameters for bridge in bridges.maps], dtype=float))

    def ratio(self, efforts: Sequence[Effort]) -> float:
        """Work of these answers, one per question, divided by the work of full depth."""
        executions = np.array([effort.executions for effort in efforts], dtype=float)
        skips = np.array([effort.skips for effort in efforts], dtype=float)
        passes = np.array([effort.passes for effort in efforts])
        probes = np.array([effort.probes for effort in efforts])
        body = self.tokens * (executions @ self.layers + skips @ self.bridges)
        work = body + self.head * (self.scored * passes + probes)
        full = self.tokens * self.layers.sum() + self.head * self.scored
        return float(work.sum() / full.sum())
