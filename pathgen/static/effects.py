"""The mean effect of each edit on quality, measured one edit at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..paths.layer_path import LayerAction, LayerPath, Move

SHRINKAGE = 10.0
"""Weight, in questions, of the prior that an edit has no effect: a mean of n questions is scaled by n / (n + this)."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Mean change of quality against the full path: [L] for skipping each layer, and [L] for repeating it.

    The paths that a search stored are biased: it runs more paths with edits that help on its question, and nearly
    every edit helps on a question that full depth gets wrong.
    """

    skip: np.ndarray
    repeat: np.ndarray

    @classmethod
    def measure(cls, quality: np.ndarray) -> Effects:
        """Shrunken means over questions, from the [Q, 1 + 2L] quality of `scanned_paths`, without NaN."""
        count, width = quality.shape
        changes = (quality[:, 1:] - quality[:, :1]).sum(axis=0) / (count + SHRINKAGE)
        return cls(changes[: width // 2], changes[width // 2 :])

    @property
    def num_layers(self) -> int:
        """The model's number of layers, L."""
        return len(self.skip)

    def predict(self, paths: np.ndarray) -> np.ndarray:
        """[P] predicted changes of quality: the summed effects of the edits of `paths`, [P, L]."""
        return (paths == LayerAction.SKIP) @ self.skip + (paths == LayerAction.REPEAT) @ self.repeat


def scanned_paths(num_layers: int) -> list[LayerPath]:
    """The full path, then every layer skipped alone, then every layer repeated alone: 1 + 2L paths."""
    full = LayerPath.full(num_layers)
    actions = (LayerAction.SKIP, LayerAction.REPEAT)
    return [full, *(Move(layer, action).apply(full) for action in actions for layer in range(num_layers))]
