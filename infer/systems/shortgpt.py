"""Static pruning by block influence (ShortGPT, arXiv 2403.03853): skip the layers that change states least."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.evaluation.decided_paths import prompt_batches
from pathgen.paths.layer_path import LayerAction, LayerPath


@torch.inference_mode()
def block_influence(model: PathModel, prompts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """[L] `BI_l = 1 − E[cos(h_l, h_{l+1})]` over all tokens, at full depth (section 3.1 of the paper).

    `prompts` are token ids, at least one prompt.
    """
    similarity = np.zeros(model.num_layers)
    tokens = 0
    for _, ids, mask in prompt_batches(model, prompts):

        def compare(index: int, hidden: Tensor, *args: Any, mask: Tensor = mask, **kwargs: Any) -> Any:
            after = model.run_layer(index, hidden, args, kwargs)
            cosine = torch.cosine_similarity(hidden.float(), after.float(), dim=-1)
            similarity[index] += float((cosine * mask.to(cosine.device)).sum())
            return model.as_returned(index, after)

        with model.mode(compare):
            model.run_body(**forward_inputs(ids, mask))
        tokens += int(mask.sum())
    return 1 - similarity / tokens


def pruned_path(influence: NDArray[np.float64], depth: int, pinned: Collection[int] = ()) -> LayerPath:
    """The path of the `depth` layers of highest influence; among equal layers, the first is skipped.

    Layers of `pinned` are never skipped.
    """
    path = np.full(len(influence), LayerAction.EXECUTE)
    ranked = [layer for layer in np.argsort(influence, kind="stable") if layer not in pinned]
    path[ranked[: len(influence) - depth]] = LayerAction.SKIP
    return LayerPath(path.tolist())
