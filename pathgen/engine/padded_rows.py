"""Token rows of different length as one batch, padded on the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .path_model import PathModel
from .token_rows import PROMPT, Row
from .tree_masks import MaskForm


def padded(rows: Iterable[Sequence[int] | NDArray[Any]], device: torch.device) -> Tensor:
    """[R, T] int64: the rows, with zeros on the right."""
    return pad_sequence([torch.as_tensor(row, dtype=torch.int64) for row in rows], batch_first=True).to(device)


def row_inputs(model: PathModel, masks: MaskForm | None, rows: list[Row]) -> dict[str, Any]:
    """The rows as arguments of the model's forward: ids and positions [R, T], and their mask.

    Without `masks` it is the [R, T] mask of plain causal rows.
    """
    device = model.device
    mask = (
        masks.build(rows, max(map(len, rows)), model.hf_model.dtype, device)
        if masks is not None
        else padded((np.ones(len(row)) for row in rows), device)
    )
    return {
        "input_ids": padded((row.ids for row in rows), device),
        "position_ids": padded((row.positions for row in rows), device),
        "attention_mask": mask,
    }


def prompt_mask(rows: Sequence[Row], device: torch.device) -> Tensor:
    """[R, T] 1 at the prompts' tokens, else 0."""
    return padded((row.branch == PROMPT for row in rows), device)
