"""Which moves a search tries first: told by how much each layer changes the question's own states at full depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..paths.layer_path import LayerAction, Move, all_moves

STEEPNESS = 2.0
"""Logarithm of the weight between the pairs of least and most influence; chosen by measurement (docs/LOG.md)."""


def move_weights(influence: Sequence[float]) -> dict[Move, float]:
    """The weight of each move, up to a factor, on a question that the full path answers right.

    Moves that save most and change least come first: pairs, then single skips, by ascending influence; repeats last.
    (What mends a wrong answer is another matter: moves that change much did on one model, and not on the next.)

    Args:
        influence: of the L single layers, then of the L - 1 pairs, as `InfluenceMeter.found`.
    """
    num_layers = (len(influence) + 1) // 2
    ranks = {1: _ranks(influence[:num_layers]), 2: _ranks(influence[num_layers:])}

    def logarithm(move: Move) -> float:
        if move.action == LayerAction.REPEAT:
            return -2 * STEEPNESS
        rank = ranks[move.width][move.layer]
        return -STEEPNESS * (rank if move.width == 2 else rank + 0.5)

    return {move: math.exp(logarithm(move)) for move in all_moves(num_layers)}


def _ranks(values: Sequence[float]) -> list[float]:
    """Of each value, from 0 for the smallest to 1 for the largest."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (order / max(1, len(values) - 1)).tolist()
