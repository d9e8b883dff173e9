"""Ridge regression out of fold, in its dual form, with the penalty chosen inside each fold by leave-one-out error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PENALTIES = np.logspace(-2, 6, 17)
"""Tried, as multiples of the mean squared norm of a row."""


def out_of_fold(features: Array, targets: Array, folds: NDArray[np.int_]) -> Array:
    """Predictions of each row's targets by a model that has not seen its fold.

    Args:
        features: [Q, D].
        targets: [Q, P].
        folds: [Q] the fold of each row.

    Returns:
        [Q, P].
    """
    predicted = np.empty_like(targets)
    for fold in np.unique(folds):
        held = folds == fold
        predicted[held] = fit_predict(features[~held], targets[~held], features[held])
    return predicted


def fit_predict(features: Array, targets: Array, unseen: Array) -> Array:
    """[U, P] predictions for unseen rows, by one penalty for all targets."""
    centre, spread = features.mean(0), features.std(0) + 1e-9
    rows, others = (features - centre) / spread, (unseen - centre) / spread
    mean = targets.mean(0)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    turned = vectors.T @ (targets - mean)
    weights = min(
        (_leave_one_out(values, vectors, turned, penalty) for penalty in PENALTIES * max(values.mean(), 1e-12)),
        key=lambda found: found[0],
    )[1]
    return mean + (others @ rows.T) @ weights


def _leave_one_out(values: Array, vectors: Array, turned: Array, penalty: float) -> tuple[float, Array]:
    """The squared error of predicting each row without it, and the dual weights."""
    shrunk = 1 / (np.maximum(values, 0) + penalty)
    weights = vectors @ (shrunk[:, None] * turned)
    inverse_diagonal = (vectors**2) @ shrunk
    return float(np.mean((weights / inverse_diagonal[:, None]) ** 2)), weights


def centred(effects: Array) -> Array:
    """[Q, P] effects without their means over questions and over paths: the interaction."""
    return effects - effects.mean(0) - effects.mean(1, keepdims=True) + effects.mean()


def explained(predicted: Array, true: Array) -> float:
    """R² of the interaction."""
    return float(1 - ((true - predicted) ** 2).sum() / (true**2).sum())


def assign_folds(keys: Sequence[str], count: int) -> NDArray[np.int_]:
    """[Q] folds by a hash of each key, so that they do not depend on the order."""
    import hashlib

    digests = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") for key in keys]
    return np.array([digest % count for digest in digests])
