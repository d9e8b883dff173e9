"""What each edit of a path does to quality on average, measured one edit at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..paths.layer_path import LayerAction, LayerPath, Move

SHRINKAGE = 10.0
"""Questions' worth of belief that an edit does nothing: an effect seen on n questions counts n / (n + SHRINKAGE)."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Mean change of quality against the full path, by edit.

    What a search has stored would not do: it runs more paths through the edits that help on its question, and on a
    question that full depth gets wrong nearly every edit helps.

    Attributes:
        skip: [L] of skipping each layer.
        repeat: [L] of running each layer twice.
    """

    skip: np.ndarray
    repeat: np.ndarray

    @classmethod
    def measure(cls, quality: np.ndarray) -> Effects:
        """Shrunken means over questions.

        Args:
            quality: [Q, 1 + 2L] of `scanned_paths` on each question, without NaN.
        """
        count, width = quality.shape
        changes = (quality[:, 1:] - quality[:, :1]).sum(axis=0) / (count + SHRINKAGE)
        return cls(changes[: width // 2], changes[width // 2 :])

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.skip)

    def predict(self, paths: np.ndarray) -> np.ndarray:
        """[P] sums of the effects of these paths' edits, [P, L]: the higher, the better the path should be."""
        return (paths == LayerAction.SKIP) @ self.skip + (paths == LayerAction.REPEAT) @ self.repeat


def scanned_paths(num_layers: int) -> list[LayerPath]:
    """The full path, then every layer skipped alone, then every layer repeated alone: 1 + 2L paths."""
    full = LayerPath.full(num_layers)
    actions = (LayerAction.SKIP, LayerAction.REPEAT)
    return [full, *(Move(layer, action).apply(full) for action in actions for layer in range(num_layers))]
