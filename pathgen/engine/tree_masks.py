"""Tree masks for packed rows, in the form that a model family accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .token_rows import Row


@dataclass(frozen=True, slots=True)
class MaskForm:
    """The form of 4-D mask that a model family accepts.

    Attributes:
        by_kind: whether it is a dict `{full_attention, sliding_attention}`, else one mask for all layers.
        additive: whether it is float, 0 or the dtype's minimum (eager attention), else boolean (sdpa).
        window: sliding window in positions; None for full attention.
    """

    by_kind: bool
    additive: bool
    window: int | None

    def build(self, rows: list[Row], width: int, dtype: torch.dtype, device: torch.device) -> Any:
        """[B, 1, width, width] masks for rows padded on the right to `width`."""
        if self.by_kind:
            full = self._mask(rows, width, None, dtype, device)
            sliding = self._mask(rows, width, self.window, dtype, device) if self.window else full
            return {"full_attention": full, "sliding_attention": sliding}
        return self._mask(rows, width, self.window, dtype, device)

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
