"""What each edit of a path does to quality on average: an additive model, fitted to evaluations a search has stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .actions import LayerAction

RIDGE = 10.0
"""Evaluations' worth of belief that an edit does nothing: an effect seen n times is shrunk by about n / (n + RIDGE)."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Additive effects on quality, for comparing edited paths with each other.

    Attributes:
        skip: [L] of skipping each layer.
        repeat: [L] of running each layer twice.
        adjacent: [L - 1] on top of both skips, of skipping layer l and the one after it.
    """

    skip: np.ndarray
    repeat: np.ndarray
    adjacent: np.ndarray

    @classmethod
    def fit(cls, paths: np.ndarray, quality: np.ndarray, questions: np.ndarray) -> Effects:
        """Ridge regression of quality on edits, within questions.

        A search runs more paths through the edits that help on its question, and on a question that full depth gets
        wrong nearly every edit helps. So each question has its own level, the mean over its evaluations, and only
        differences between paths of one question count.

        Args:
            paths: [N, L] actions of edited paths.
            quality: [N] of each on its question.
            questions: [N] number of the question, from 0.
        """
        design = _within(_edits(paths), questions)
        gram = design.T @ design + RIDGE * np.eye(design.shape[1])
        found = np.linalg.solve(gram, design.T @ _within(quality[:, None], questions)[:, 0])
        num_layers = paths.shape[1]
        return cls(found[:num_layers], found[num_layers : 2 * num_layers], found[2 * num_layers :])

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.skip)

    def predict(self, paths: np.ndarray) -> np.ndarray:
        """[P] sums of the effects of these paths' edits, [P, L]: the higher, the better the path should be."""
        return _edits(paths) @ np.concatenate([self.skip, self.repeat, self.adjacent])


def _edits(paths: np.ndarray) -> np.ndarray:
    """[N, 3L - 1] which edits each path makes, as 0 and 1."""
    skipped = paths == LayerAction.SKIP
    repeated = paths == LayerAction.REPEAT
    return np.concatenate([skipped, repeated, skipped[:, :-1] & skipped[:, 1:]], axis=1).astype(np.float64)


def _within(values: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """[N, K] values minus their mean over the rows of the same question."""
    counts = np.bincount(questions).clip(min=1)
    sums = np.stack([np.bincount(questions, column, len(counts)) for column in values.T], axis=1)
    return values - (sums / counts[:, None])[questions]
