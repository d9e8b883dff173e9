"""What each edit of a path does to quality on average: an additive model, fitted to evaluations a search has stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .actions import LayerAction

RIDGE = 10.0
"""Evaluations' worth of belief that an edit does nothing: an effect seen n times is shrunk by about n / (n + RIDGE)."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Additive effects on quality, relative to the full path.

    Attributes:
        skip: [L] of skipping each layer.
        repeat: [L] of running each layer twice.
        adjacent: [L - 1] on top of both skips, of skipping layer l and the one after it.
    """

    skip: np.ndarray
    repeat: np.ndarray
    adjacent: np.ndarray

    @classmethod
    def fit(cls, paths: np.ndarray, gains: np.ndarray) -> Effects:
        """Ridge regression of gains on edits, without an intercept: the full path's gain is 0.

        Args:
            paths: [N, L] actions.
            gains: [N] quality of the path minus the full path's on the same question, so that how hard a question
                is takes no part.
        """
        design = _edits(paths)
        gram = design.T @ design + RIDGE * np.eye(design.shape[1])
        found = np.linalg.solve(gram, design.T @ gains)
        num_layers = paths.shape[1]
        return cls(found[:num_layers], found[num_layers : 2 * num_layers], found[2 * num_layers :])

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.skip)

    def predict(self, paths: np.ndarray) -> np.ndarray:
        """[P] mean gains in quality over the full path that these paths [P, L] should have."""
        return _edits(paths) @ np.concatenate([self.skip, self.repeat, self.adjacent])


def _edits(paths: np.ndarray) -> np.ndarray:
    """[N, 3L - 1] which edits each path makes, as 0 and 1."""
    skipped = paths == LayerAction.SKIP
    repeated = paths == LayerAction.REPEAT
    return np.concatenate([skipped, repeated, skipped[:, :-1] & skipped[:, 1:]], axis=1).astype(np.float64)
