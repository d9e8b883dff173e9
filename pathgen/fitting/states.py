"""The states that reach and leave each layer of a frozen model, summed as a forward runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..bridges.sums import LayerSums
from ..engine.padded_rows import padded
from ..engine.path_model import PathModel, forward_inputs


@torch.inference_mode()
def add_texts(model: PathModel, texts: Sequence[Sequence[int]], sums: Sequence[LayerSums]) -> None:
    """Run one batch of texts, in token ids, at full depth, and add its states to the sums of each layer.

    Raises:
        ValueError: a state is not finite.
    """
    ids = padded(texts, model.device)
    mask = padded(([1] * len(text) for text in texts), model.device)
    tokens = mask.bool()

    def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        after = model.run_layer(index, hidden, args, kwargs)
        sums[index].add(hidden[tokens.to(hidden.device)], after[tokens.to(after.device)].to(hidden.device))
        return model.as_returned(index, after)

    with model.mode(watch):
        model.run_body(**forward_inputs(ids, mask))
