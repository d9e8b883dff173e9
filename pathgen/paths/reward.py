"""The reward of a search: a right answer, a large margin, few layers."""

from __future__ import annotations

import math

from .cost import CostModel
from .layer_path import LayerPath
from .records import Evaluation


def path_quality(evaluation: Evaluation, base_margin: float) -> float:
    """`½·correct + ½·σ(z)`, and 0 without a margin.

    Args:
        evaluation: the path's result.
        base_margin: in nats; z is the margin minus this. The full path's margin if an answer is generated, 0 for
            choices, whose margin is already relative.
    """
    if evaluation.margin is None:
        return 0.0
    # σ(z) = ½ + ½·tanh(z/2), which cannot overflow.
    return 0.5 * evaluation.correct + 0.25 * (1 + math.tanh((evaluation.margin - base_margin) / 2))


def path_reward(evaluation: Evaluation, base_margin: float, cost: CostModel, length_weight: float) -> float:
    """`quality − λ · cost/cost(full)`.

    Args:
        evaluation: the path's result.
        base_margin: as for `path_quality`.
        cost: the cost model of paths.
        length_weight: λ.
    """
    full = LayerPath.full(len(evaluation.path))
    return path_quality(evaluation, base_margin) - length_weight * cost.cost(evaluation.path) / cost.cost(full)
