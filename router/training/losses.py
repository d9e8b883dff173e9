"""The training loss: focal loss on soft targets, with classes weighted by their effective numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def focal_loss(logits: Tensor, targets: Tensor, class_weights: Tensor, gamma: float) -> Tensor:
    """[...] losses −Σ_a w_a · t_a · (1 − p_a)^γ · log p_a (Lin et al. 2017, equation 4, with soft targets t).

    γ = 0 and w = 1 is cross-entropy. An action of target 0 adds nothing, even if its logit is −inf.

    Args:
        logits: [..., A].
        targets: [..., A] summing to 1 over actions.
        class_weights: [A] w.
        gamma: γ, at least 0.
    """
    # A log-probability of −inf would give 0 · inf; if the target is 0, any finite value serves.
    log_p = torch.log_softmax(logits, dim=-1).masked_fill(targets == 0, -1.0)
    miss = (-torch.expm1(log_p)).clamp(min=1e-12)  # 1 − p; at 0, a power below 1 has an infinite slope
    return -(class_weights * targets * miss**gamma * log_p).sum(dim=-1)


def class_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """[A] float64 weights (1 − β) / (1 − βⁿ), 1 / effective number of each class (Cui et al. 2019, equation 2).

    Their mean is 1 over the classes that occur; the others have 0.

    Args:
        counts: [A] n, occurrences; fractions for soft targets. Below 1 counts as 1, so that a rare class does not
            outweigh all others.
        beta: β in [0, 1); 0 gives equal weights.

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
