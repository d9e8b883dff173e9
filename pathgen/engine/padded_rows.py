"""Token rows of different length as one batch, padded on the right, with masks in the form that a family accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .path_model import PathModel
from .token_rows import PROMPT, Row


@dataclass(frozen=True, slots=True)
class MaskForm:
    """The form of 4-D mask that a model family accepts."""

    by_kind: bool
    """A dict `{full_attention, sliding_attention}`, else one mask for all layers."""
    additive: bool
    """Float, 0 or the dtype's minimum (eager attention), else boolean (sdpa)."""
    window: int | None
    """Sliding window in positions; None for full attention."""

    def build(self, rows: list[Row], width: int, dtype: torch.dtype, device: torch.device) -> Any:
        """[B, 1, width, width] masks for rows padded on the right to `width`."""
        sliding = self._mask(rows, width, self.window, dtype, device)
        if not self.by_kind:
            return sliding
        full = self._mask(rows, width, None, dtype, device) if self.window else sliding
        return {"full_attention": full, "sliding_attention": sliding}

    def _mask(
        self, rows: list[Row], width: int, window: int | None, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        visible = np.zeros((len(rows), 1, width, width), dtype=bool)
        visible[:, 0, np.arange(width), np.arange(width)] = True  # padding sees itself, so that no softmax row is empty
        for index, row in enumerate(rows):
            visible[index, 0, : len(row), : len(row)] = row.visible(window)
        mask = torch.from_numpy(visible).to(device)
        if not self.additive:
            return mask
        return torch.zeros((), dtype=dtype, device=device).where(mask, torch.finfo(dtype).min)


def padded(rows: Iterable[Sequence[int] | NDArray[Any]], device: torch.device) -> Tensor:
    """[R, T] int64: the rows, with zeros on the right."""
    return pad_sequence([torch.as_tensor(row, dtype=torch.int64) for row in rows], batch_first=True).to(device)


def masked(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of rows and their mask, [R, T] each: padded on the right, 1 for tokens."""
    return padded(rows, device), padded(([1] * len(row) for row in rows), device)


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
