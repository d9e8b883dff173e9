"""The head in float32: bfloat16 logits are so coarse that two choices of one token often tie exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY_ROWS = 1 << 14
"""Most rows of the head's weight that exist in float32 at a time."""


@contextmanager
def float32_head(hf_model: Any) -> Iterator[None]:
    """Within the block a model of narrower weights gives float32 logits, from the same states and weights.

    What follows the head (scaling, soft-capping) is computed in float32 then. A float32 model is left as it is, and
    so is a head that is no plain linear layer, as a quantised one.
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
    """What the head would have given: [..., H] states to [..., V] logits."""
    states = given[0].to(head.weight.device, torch.float32)
    logits = narrow.new_empty(narrow.shape, dtype=torch.float32, device=states.device)
    for start in range(0, len(head.weight), VOCABULARY_ROWS):
        part = slice(start, start + VOCABULARY_ROWS)
        logits[..., part] = states @ head.weight[part].float().T
    return (logits if head.bias is None else logits + head.bias).to(narrow.device)
