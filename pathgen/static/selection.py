"""Races the candidates, and chooses a path at each depth by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RACE_ERRORS = 3.0
"""A candidate is dropped when it is so many paired standard errors worse than the best that is no deeper."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The path of one depth: index of the best on all questions, and [Q] of the best without each question's fold."""

    depth: int
    path: int
    held_out: np.ndarray


def survivors(quality: np.ndarray, depths: np.ndarray, full: int) -> np.ndarray:
    """[P] whether each candidate may still become the best of its depth; the full path always stays.

    Args:
        quality: [Q, P] of at least two questions, without NaN.
        depths: [P] layer executions.
        full: index of the full path.
    """
    means = quality.mean(axis=0)
    stays = np.ones(len(depths), dtype=bool)
    for candidate in range(len(depths)):
        rivals = np.flatnonzero(depths <= depths[candidate])
        rival = rivals[means[rivals].argmax()]
        mean, error = difference_with_error(quality[:, candidate], quality[:, rival])
        stays[candidate] = mean >= -RACE_ERRORS * error
    stays[full] = True
    return stays


def difference_with_error(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of one − other over questions, and its standard error."""
    difference = one.astype(np.float64) - other
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def choose_by_depth(quality: np.ndarray, depths: np.ndarray, folds: np.ndarray) -> list[Choice]:
    """Choose the path of each depth on all questions, and for each fold on the questions outside it. Shallowest first.

    So the mean over `held_out` estimates the quality on new questions of a path of that depth, chosen in this way.
    It does not hold for a depth that is chosen by this mean.

    Args:
        quality: [Q, P], without NaN.
        depths: [P] layer executions.
        folds: [Q] each question's fold.
    """
    choices = []
    for depth in np.unique(depths):
        menu = np.flatnonzero(depths == depth)
        held_out = np.empty(len(folds), dtype=np.int64)
        for fold in np.unique(folds):
            held_out[folds == fold] = menu[quality[folds != fold][:, menu].mean(axis=0).argmax()]
        choices.append(Choice(int(depth), int(menu[quality[:, menu].mean(axis=0).argmax()]), held_out))
    return choices
