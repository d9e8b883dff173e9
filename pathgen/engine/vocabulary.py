"""The head of a model, which multiplies states by the whole vocabulary: only where it is read, and in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

BLOCK_ROWS = {"cpu": 512, "cuda": 1 << 14}
"""Rows of the head's weight in one product, by device type. On a CPU a block stays in the cache: it is widened to
float32 there at no measurable cost, and its product is faster than that of the whole matrix."""


def float32_logits(head: nn.Linear, states: Tensor) -> Tensor:
    """[..., V] float32 logits of [..., H] states, from the head's own weights: nothing is rounded after the product."""
    weight, states = head.weight, states.to(head.weight.device)
    if states.is_cuda and weight.dtype == torch.float32:
        logits = linear(states.float(), weight)
    elif states.is_cuda and states.dtype == weight.dtype and not states.requires_grad:
        logits = torch.mm(states.flatten(0, -2), weight.T, out_dtype=torch.float32).view(*states.shape[:-1], -1)
    else:
        wide = states.float()
        blocks = weight.split(BLOCK_ROWS.get(states.device.type, BLOCK_ROWS["cuda"]))
        logits = torch.cat([linear(wide, block.float()) for block in blocks], dim=-1)
    return logits if head.bias is None else logits + head.bias.float()
