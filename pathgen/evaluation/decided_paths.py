"""The paths that a policy takes on prompts, found by running the model over them once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..engine.path_model import PathModel
from ..engine.policies import LayerPolicy, RecordedPolicy
from ..paths.layer_path import LayerPath
from .batching import Extent, like_lengths

BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Most prompt tokens, padding included, in one forward, by device type."""


def decide_paths(model: PathModel, policy: LayerPolicy, prompts: Sequence[Sequence[int]]) -> list[LayerPath]:
    """Run the policy over prompts (token ids) and return the path it takes on each, in order."""
    found: dict[int, LayerPath] = {}
    for indices, ids, mask in prompt_batches(model, prompts):
        recorded = RecordedPolicy(policy)
        model.logits(ids, mask, policy=recorded, logits_to_keep=1)
        found.update(zip(indices, recorded.paths(), strict=True))
    return [found[index] for index in range(len(prompts))]


def prompt_batches(model: PathModel, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Prompts of like length together, padded on the right.

    Yields:
        Indices into `prompts`, their ids [B, T] and their mask [B, T], on the model's device.
    """
    limit = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
    extents = [Extent.of_row(len(prompt)) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    for batch in like_lengths(extents, order, lambda batch, _: len(prompts[batch[0]]) * (len(batch) + 1) > limit):
        yield batch, *_padded(model, [prompts[i] for i in batch])


def _padded(model: PathModel, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts])
    return ids.to(model.device), mask.to(model.device)
