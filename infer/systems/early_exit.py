"""Early exit without training: once the model's head is confident of the next token, it skips the later layers.

As in CALM (arXiv 2207.07061) and LayerSkip (arXiv 2404.16710), but decided once per prompt, at its last token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decided_paths import prompt_batches
from pathgen.paths.layer_path import LayerAction, LayerPath

NEVER = 1.01
"""A threshold that no probability exceeds."""


class EarlyExit:
    """Policy that skips all later layers once the top probability exceeds the threshold.

    Before each layer but the first, the state of the prompt's last token goes through the model's final norm and head.
    Rows that have exited are not checked again. A threshold of 0 exits after the first layer, 1 or more never.

    Attributes:
        confidences: [B, L] top probability before each layer of the latest prefill; NaN if not checked.
    """

    def __init__(self, model: PathModel, threshold: float):
        self._model = model
        self._threshold = threshold
        self.confidences = torch.empty(0)

    @torch.inference_mode()
    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] EXECUTE, or SKIP for rows that have exited."""
        rows = hidden.shape[0]
        if layer == 0:
            self._left = torch.zeros(rows, dtype=torch.bool, device=hidden.device)
            self._last = (prompt_mask.cumsum(-1) * prompt_mask).argmax(-1).to(hidden.device)
            self.confidences = torch.full((rows, self._model.num_layers), torch.nan, device=hidden.device)
        else:
            going = (~self._left).nonzero()[:, 0]
            if len(going):
                states = hidden[going, self._last[going]].to(self._model.device)
                sure = self._model.head(states).softmax(-1).amax(-1).to(hidden.device)
                self.confidences[going, layer] = sure
                self._left[going] = sure > self._threshold
        return torch.where(self._left, LayerAction.SKIP, LayerAction.EXECUTE)


def exit_confidences(model: PathModel, prompts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """[N, L] top probability before each layer on the full path, NaN before the first; `prompts` are token ids."""
    found = np.full((len(prompts), model.num_layers), np.nan)
    for indices, ids, mask in prompt_batches(model, prompts):
        probe = EarlyExit(model, NEVER)
        model.states(ids, mask, policy=probe)
        found[indices] = probe.confidences.double().cpu().numpy()
    return found


def exit_paths(confidences: NDArray[np.float64], threshold: float) -> list[LayerPath]:
    """The paths that `EarlyExit` takes at this threshold, from `exit_confidences` [N, L]."""
    left = np.maximum.accumulate(np.nan_to_num(confidences, nan=-np.inf) > threshold, axis=1)
    return [LayerPath(row) for row in np.where(left, LayerAction.SKIP, LayerAction.EXECUTE).tolist()]
