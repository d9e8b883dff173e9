"""Token rows of different length as one batch, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .path_model import PathModel
from .token_rows import Row
from .tree_masks import MaskForm


def row_inputs(model: PathModel, masks: MaskForm | None, rows: list[Row]) -> dict[str, Any]:
    """The rows as arguments of the model's forward, padded on the right: ids and positions [R, T], and their mask.

    Args:
        model: the wrapped model.
        masks: how tree masks are handed to it; None for plain causal rows.
        rows: at least one.
    """
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row.ids
        positions[index, : len(row)] = row.positions
    device = model.device
    mask = (
        masks.build(rows, width, model.hf_model.dtype, device)
        if masks is not None
        else torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    )
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "position_ids": torch.from_numpy(positions).to(device),
        "attention_mask": mask,
    }


def prompt_mask(rows: Sequence[Row], device: torch.device) -> Tensor:
    """[R, T] 1 at the prompts' tokens, else 0."""
    width = max(map(len, rows))
    lengths = [row.prompt_tokens for row in rows]
    return torch.tensor([[1] * length + [0] * (width - length) for length in lengths], device=device)
