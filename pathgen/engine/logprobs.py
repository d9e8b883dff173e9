"""Log-probabilities of target tokens, always in float32: with bfloat16 logits, two choices often tie exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .path_model import PathModel

HEAD_ROWS = 256
"""Most positions whose logits are in memory at a time."""
VOCABULARY_ROWS = 1 << 14
"""Most rows of the head's weight that are in memory as float32 at a time."""


def target_logprobs(logits: Tensor, predicts: Tensor, targets: Tensor) -> Tensor:
    """[K] float32 log-probabilities, in nats, of the token ids `targets` [K].

    `logits` are [N, V]; `predicts` [K] is the position, 0 to N - 1, that predicts each target.
    """
    logits = logits.float()
    return logits[predicts, targets] - logits.logsumexp(-1)[predicts]


def state_logprobs(
    model: PathModel, states: Tensor, predicts: NDArray[np.int64], targets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`target_logprobs` from the last layer's states [N, H], with the logits of HEAD_ROWS positions at a time."""
    order = np.argsort(predicts, kind="stable")
    at, wanted = (torch.from_numpy(array[order]).to(states.device) for array in (predicts, targets))
    found = []
    for start in range(0, len(states), HEAD_ROWS):
        first, last = np.searchsorted(predicts[order], [start, start + HEAD_ROWS])
        with float32_head(model.hf_model):
            logits = model.head(states[start : start + HEAD_ROWS])
        found.append(target_logprobs(logits, at[first:last] - start, wanted[first:last]))
    values = np.empty(len(predicts), dtype=np.float32)
    values[order] = torch.cat(found).cpu().numpy()
    return values


@contextmanager
def float32_head(hf_model: Any) -> Iterator[None]:
    """Within the block, a bfloat16 or float16 model returns float32 logits, from the same states and weights.

    Scaling and soft-capping after the head then run in float32. A float32 model stays unchanged, and so does a head
    that is not a plain linear layer (a quantised one, for example).
    """
    head = hf_model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.dtype == torch.float32:
        yield
        return
    hook = head.register_forward_hook(_in_float32)
    try:
        yield
    finally:
        hook.remove()


def _in_float32(head: nn.Linear, given: tuple[Tensor, ...], narrow: Tensor) -> Tensor:
    """A forward hook: the head's [..., V] logits of its [..., H] states, in float32."""
    states = given[0].to(head.weight.device, torch.float32)
    logits = narrow.new_empty(narrow.shape, dtype=torch.float32, device=states.device)
    for start in range(0, len(head.weight), VOCABULARY_ROWS):
        part = slice(start, start + VOCABULARY_ROWS)
        logits[..., part] = states @ head.weight[part].float().T
    return (logits if head.bias is None else logits + head.bias).to(narrow.device)
