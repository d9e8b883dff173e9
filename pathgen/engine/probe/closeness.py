"""Whether two ways of running a model give the same states or logits."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSE, LOW_PRECISION_CLOSE = 1e-3, 0.1
"""Largest gap relative to a token's largest value, in float32 and in narrower dtypes. There, rounding may send single
tokens to other experts, so the median over a row's tokens counts."""


def is_close(got: Tensor, want: Tensor, dtype: torch.dtype) -> bool:
    """Whether float32 values [T, H] of a model in `dtype` are equal up to rounding, by each token's largest value.

    Relative, because beside a massive activation the small ones are rounded coarsely.
    """
    gaps = (got - want).abs().amax(-1) / want.abs().amax(-1).clamp(min=1e-12)
    return bool((gaps <= CLOSE).all() if dtype.itemsize >= 4 else gaps.median() <= LOW_PRECISION_CLOSE)
