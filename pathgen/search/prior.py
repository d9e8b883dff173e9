"""Which moves a search tries first: told by how much each layer changes the question's own states at full depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..paths.layer_path import LayerAction, Move, all_moves

STEEPNESS_IF_RIGHT = 2.0
STEEPNESS_IF_WRONG = 3.0
"""Logarithm of the weight between the moves of least and most influence, or half of it; chosen by measurement
(docs/LOG.md)."""


def move_weights(influence: Sequence[float], *, base_correct: bool) -> dict[Move, float]:
    """The weight of each move, up to a factor.

    If the full path is right, moves that save most and change least come first: pairs, then single skips, by ascending
    influence; repeats last. If it is wrong, moves that change most come first, skips and repeats alike.

    Args:
        influence: of the L single layers, then of the L - 1 pairs, as `InfluenceMeter.found`.
        base_correct: whether the full path is right.
    """
    num_layers = (len(influence) + 1) // 2
    ranks = {1: _ranks(influence[:num_layers]), 2: _ranks(influence[num_layers:])}

    def logarithm(move: Move) -> float:
        rank = ranks[move.width][move.layer]
        if not base_correct:
            return STEEPNESS_IF_WRONG * (2 * rank - 1)
        if move.action == LayerAction.REPEAT:
            return -2 * STEEPNESS_IF_RIGHT
        return -STEEPNESS_IF_RIGHT * (rank if move.width == 2 else rank + 0.5)

    return {move: math.exp(logarithm(move)) for move in all_moves(num_layers)}


def _ranks(values: Sequence[float]) -> list[float]:
    """Of each value, from 0 for the smallest to 1 for the largest."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (order / max(1, len(values) - 1)).tolist()
