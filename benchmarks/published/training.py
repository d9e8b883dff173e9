"""The published way to train routers: the frozen model runs again for every path of every epoch, one path at a time.

Written from the description of Dr.LLM (arXiv 2510.12773, sections 3.3 and 4.1): batch 1, teacher forcing along the
label path, window means of the states that reach each layer, focal loss with class weights, AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath
from router.net.router import Router
from router.training.losses import class_weights, focal_loss
from router.training.settings import TrainSettings


class _Reading(FixedPaths):
    """Takes the label path; the router's heads read the states on the way."""

    def __init__(self, path: LayerPath, router: Router):
        super().__init__([path])
        self._router = router
        self.logits: list[Tensor] = []

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[1] the path's action."""
        with torch.inference_mode(False), torch.enable_grad():
            pooled = self._router.config.pooling.pool(hidden.clone(), prompt_mask.clone())
            self.logits.append(self._router.logits(layer, pooled))
        return super().actions(layer, hidden, prompt_mask)


def published_epochs(
    model: PathModel,
    router: Router,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[LayerPath],
    settings: TrainSettings,
    epochs: int,
) -> list[float]:
    """Train for some epochs; the mean loss of each."""
    counts = np.array([sum(path.count(action) for path in paths) for action in range(3)], dtype=float)
    weights = torch.tensor(class_weights(counts, settings.class_beta), dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        router.heads.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    rng = np.random.default_rng(settings.seed)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for index in rng.permutation(len(paths)):
            reading = _Reading(paths[index], router)
            model.states(torch.tensor([prompts[index]]), policy=reading)
            targets = torch.nn.functional.one_hot(torch.tensor(paths[index]), 3).float()
            loss = focal_loss(torch.cat(reading.logits), targets, weights, settings.focal_gamma).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(router.heads.parameters(), settings.clip_norm)
            optimizer.step()
            total += loss.item()
        losses.append(total / len(paths))
    return losses
