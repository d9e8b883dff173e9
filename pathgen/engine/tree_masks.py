"""Tree masks for packed rows, in the form a family accepts; found by trying, and checked against plain rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .token_rows import Row

if TYPE_CHECKING:
    from .path_model import PathModel

PROBE_TOKENS = 24
PROBE_TOLERANCE = {torch.float32: 2e-3, torch.float64: 2e-3}
"""Largest accepted gap, in nats, between packed and plain rows, by dtype; others: LOW_PRECISION_TOLERANCE."""
LOW_PRECISION_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class MaskForm:
    """How a family takes a ready 4-D mask.

    Attributes:
        by_kind: as a dict `{full_attention, sliding_attention}`, else one mask for all layers.
        additive: float, 0 or the dtype's minimum (eager attention), else boolean (sdpa).
        window: sliding window in positions, None for full attention.
    """

    by_kind: bool
    additive: bool
    window: int | None

    def build(self, rows: list[Row], width: int, dtype: torch.dtype, device: torch.device) -> Any:
        """Masks [B, 1, T, T] for rows padded on the right to `width`."""
        if self.by_kind:
            full = self._mask(rows, width, None, dtype, device)
            sliding = self._mask(rows, width, self.window, dtype, device) if self.window else full
            return {"full_attention": full, "sliding_attention": sliding}
        return self._mask(rows, width, self.window, dtype, device)

    def _mask(
        self, rows: list[Row], width: int, window: int | None, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        visible = np.zeros((len(rows), 1, width, width), dtype=bool)
        visible[:, 0, np.arange(width), np.arange(width)] = True  # padding sees itself: no empty softmax row
        for index, row in enumerate(rows):
            visible[index, 0, : len(row), : len(row)] = row.visible(window)
        mask = torch.from_numpy(visible).to(device)
        if not self.additive:
            return mask
        return torch.zeros((), dtype=dtype, device=device).where(mask, torch.finfo(dtype).min)


def find_mask_form(model: PathModel) -> MaskForm | None:
    """The first form under which packed choices score as plain rows do; None if the family takes none.

    Both are run once on a short made-up question, longer than the sliding window where that is short.
    """
    from .executor import Executor
    from .token_rows import packed_row, plain_rows

    config = model.config
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ("sdpa", "eager"):
        return None
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) or None
    additive = attention == "eager"
    forms = [MaskForm(by_kind=True, additive=additive, window=window)]
    if len(kinds) < 2:
        sliding = window if not kinds or "sliding_attention" in kinds else None
        forms.append(MaskForm(by_kind=False, additive=additive, window=sliding))

    from ..paths.layer_path import LayerPath

    full = LayerPath.full(model.num_layers)
    tokens = [(7 * i + 3) % config.vocab_size for i in range(PROBE_TOKENS + 9)]
    prompt, choices = tokens[:PROBE_TOKENS], [tokens[-9:-5], tokens[-5:-2], tokens[-2:]]
    plain = Executor(model, None, keep_bytes=0).token_logprobs(
        [(row, full) for row in plain_rows("probe", prompt, choices)]
    )
    tolerance = PROBE_TOLERANCE.get(model.hf_model.dtype, LOW_PRECISION_TOLERANCE)
    for form in forms:
        try:
            packed = Executor(model, form, keep_bytes=0).token_logprobs([(packed_row("probe", prompt, choices), full)])
        except Exception:  # noqa: S112 - a family that does not take this form fails in its own way
            continue
        if np.abs(packed[0] - np.concatenate(plain)).max() <= tolerance:
            return form
    return None
