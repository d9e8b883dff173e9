"""Tree masks of packed rows, in the form that a model family accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .token_rows import Row


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
