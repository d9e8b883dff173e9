"""Finds the mask form of a model by a trial run: packed choices must score as plain rows do."""

from __future__ import annotations

import numpy as np

from ..paths.layer_path import LayerPath
from .executor import Executor
from .padded_rows import MaskForm
from .path_model import PathModel
from .token_rows import packed_row, plain_rows

PROBE_TOKENS = 24  # longer than a short sliding window
TOLERANCE, LOW_PRECISION_TOLERANCE = 2e-3, 0.25
"""Largest accepted gap, in nats, between packed and plain rows, in float32 and in narrower dtypes."""


def find_mask_form(model: PathModel) -> MaskForm | None:
    """The first form with which packed choices score as plain rows do, on an artificial question; None without one."""
    config = model.config
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ("sdpa", "eager") or model.carries_state:  # a recurrence follows no mask
        return None
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) or None
    additive = attention == "eager"
    forms = [MaskForm(by_kind=True, additive=additive, window=window)]
    if len(kinds) < 2:
        sliding = window if not kinds or "sliding_attention" in kinds else None
        forms.append(MaskForm(by_kind=False, additive=additive, window=sliding))

    full = LayerPath.full(model.num_layers)
    border = model.restrictions.border
    length = PROBE_TOKENS if border is None else max(1, min(PROBE_TOKENS, border - 4))
    tokens = [(7 * i + 3) % config.vocab_size for i in range(length + 9)]
    prompt, choices = tokens[:length], [tokens[-9:-5], tokens[-5:-2], tokens[-2:]]
    plain = Executor(model, None, keep_bytes=0).token_logprobs(
        [(row, full) for row in plain_rows("probe", prompt, choices)]
    )
    tolerance = TOLERANCE if model.hf_model.dtype.itemsize >= 4 else LOW_PRECISION_TOLERANCE
    for form in forms:
        try:
            packed = Executor(model, form, keep_bytes=0).token_logprobs([(packed_row("probe", prompt, choices), full)])
        except Exception:  # noqa: S112 - a family that does not accept this form may raise any error
            continue
        if np.abs(packed[0] - np.concatenate(plain)).max() <= tolerance:
            return form
    return None
