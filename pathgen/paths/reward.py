"""The reward of a search: a correct answer, a large margin, few layers."""

from __future__ import annotations

import math

from .cost import CostModel
from .layer_path import LayerPath
from .records import Evaluation


def path_quality(evaluation: Evaluation, base_margin: float) -> float:
    """`½·correct + ½·σ(margin − base_margin)`, in nats; 0 without a margin.

    For generated answers, the base is the full path's margin; for choices, whose margin is already relative, 0.
    """
    if evaluation.margin is None:
        return 0.0
    # σ(z) = ½ + ½·tanh(z/2), which cannot overflow.
    return 0.5 * evaluation.correct + 0.25 * (1 + math.tanh((evaluation.margin - base_margin) / 2))


def path_reward(evaluation: Evaluation, base_margin: float, cost: CostModel, length_weight: float) -> float:
    """`path_quality − λ · cost/cost(full)`, where λ is `length_weight`."""
    full = LayerPath.full(len(evaluation.path))
    return path_quality(evaluation, base_margin) - length_weight * cost.cost(evaluation.path) / cost.cost(full)
