"""Log-probabilities of target tokens, always in float32: with bfloat16 logits, two choices often tie exactly."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .path_model import PathModel

HEAD_ROWS = 256
"""Most positions whose logits are in memory at a time."""


def target_logprobs(logits: Tensor, predicts: Tensor, targets: Tensor) -> Tensor:
    """[K] float32 log-probabilities, in nats, of the token ids `targets` [K].

    `logits` are [N, V]; `predicts` [K] is the position, 0 to N - 1, that predicts each target.
    """
    # Not by logsumexp, whose exponential is many times slower than this one on some CPUs.
    return logits.float().log_softmax(-1)[predicts, targets]


def divergence(full: Tensor, found: Tensor) -> Tensor:
    """[…] KL(full ‖ found) in nats, of log-probabilities […, V]; those of `full` may lack leading dimensions."""
    weights = full.exp()
    return (weights * (full - found)).masked_fill(weights == 0, 0).sum(-1)  # 0 · log 0 is 0


def state_logprobs(
    model: PathModel, states: Tensor, predicts: NDArray[np.int64], targets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`target_logprobs` from the last layer's states [N, H], with the logits of HEAD_ROWS positions at a time."""
    order = np.argsort(predicts, kind="stable")
    at, wanted = (torch.from_numpy(array[order]).to(states.device) for array in (predicts, targets))
    found = []
    for start in range(0, len(states), HEAD_ROWS):
        first, last = np.searchsorted(predicts[order], [start, start + HEAD_ROWS])
        logits = model.head(states[start : start + HEAD_ROWS])
        places, tokens = (part[first:last].to(logits.device) for part in (at, wanted))
        found.append(target_logprobs(logits, places - start, tokens))
    values = np.empty(len(predicts), dtype=np.float32)
    values[order] = torch.cat(found).cpu().numpy()
    return values
