"""The training loss: focal loss on soft targets, with classes weighted by their effective numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SMALLEST_MISS = 1e-12
"""Lower bound of 1 − p: at 0, a power below 1 has an infinite slope."""


def focal_loss(logits: Tensor, targets: Tensor, class_weights: Tensor, gamma: float) -> Tensor:
    """−Σ_a w_a · t_a · (1 − p_a)^γ · log p_a (Lin et al. 2017, equation 4, with soft targets t).

    γ = 0 and w = 1 is cross-entropy. An action of target 0 adds nothing, even where its logit is −inf.

    Args:
        logits: [..., A].
        targets: [..., A] summing to 1 over actions.
        class_weights: [A] w.
        gamma: γ, at least 0.

    Returns:
        [...] one loss per decision.
    """
    # A log-probability of −inf would give 0 · inf; where the target is 0, any finite value does.
    log_p = torch.log_softmax(logits, dim=-1).masked_fill(targets == 0, -1.0)
    miss = (-torch.expm1(log_p)).clamp(min=SMALLEST_MISS)
    return -(class_weights * targets * miss**gamma * log_p).sum(dim=-1)


def class_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """1 / effective number of each class, (1 − β) / (1 − βⁿ) (Cui et al. 2019, equation 2).

    Args:
        counts: [A] n, how often each class occurs; fractions for soft targets. Less than one occurrence counts as
            one, else a rare class would outweigh all others.
        beta: β in [0, 1); 0 weighs all classes equally.

    Returns:
        [A] float64 with mean 1 over the classes that occur, 0 for the others.

    Raises:
        ValueError: no class occurs.
    """
    counts = np.asarray(counts, dtype=np.float64)
    present = counts > 0
    if not present.any():
        raise ValueError("class weights need at least one class that occurs")
    weights = np.zeros_like(counts)
    weights[present] = (1 - beta) / (1 - beta ** counts[present].clip(min=1))
    return weights / weights[present].mean()
