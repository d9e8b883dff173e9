"""Choosing one path for all questions: racing the candidates, and cross-validating the choice at each depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RACE_ERRORS = 3.0
"""A candidate is out when it lies so many paired standard errors behind the best of its depth or less."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The path of one depth.

    Attributes:
        depth: layer executions.
        path: index of the path of highest mean quality over all questions.
        held_out: [Q] index of the path that was chosen without the question's fold.
    """

    depth: int
    path: int
    held_out: np.ndarray


def survivors(quality: np.ndarray, depths: np.ndarray, full: int) -> np.ndarray:
    """Which candidates may still turn out best.

    Args:
        quality: [Q, P] of at least two questions, without NaN.
        depths: [P] layer executions of the candidates.
        full: index of the full path, which always stays.

    Returns:
        [P] bool.
    """
    means = quality.mean(axis=0)
    stays = np.ones(len(depths), dtype=bool)
    for candidate in range(len(depths)):
        rivals = np.flatnonzero(depths <= depths[candidate])
        rival = rivals[means[rivals].argmax()]
        mean, error = paired_difference(quality[:, candidate], quality[:, rival])
        stays[candidate] = mean >= -RACE_ERRORS * error
    stays[full] = True
    return stays


def paired_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of one − other over questions, and its standard error."""
    difference = one.astype(np.float64) - other
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def choose_by_depth(quality: np.ndarray, depths: np.ndarray, folds: np.ndarray) -> list[Choice]:
    """Choose the path of each depth, and choose it again for each fold from the questions outside it.

    The second choice goes by quality on other questions than those it is judged on, so the mean over `held_out` is
    what choosing a path of that depth in this way is worth on new questions. It says nothing of choosing a depth by it.

    Args:
        quality: [Q, P], without NaN.
        depths: [P] layer executions.
        folds: [Q] number of each question's fold.

    Returns:
        Shallowest first.
    """
    choices = []
    for depth in np.unique(depths):
        menu = np.flatnonzero(depths == depth)
        held_out = np.empty(len(folds), dtype=np.int64)
        for fold in np.unique(folds):
            held_out[folds == fold] = menu[quality[folds != fold][:, menu].mean(axis=0).argmax()]
        choices.append(Choice(int(depth), int(menu[quality[:, menu].mean(axis=0).argmax()]), held_out))
    return choices
