"""The paths that a policy takes on prompts, from one forward per batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ..engine.padded_rows import masked
from ..engine.path_model import PathModel
from ..engine.policies import LayerPolicy, RecordedPolicy
from ..paths.layer_path import LayerPath
from .batching import row_batches

BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Most prompt tokens, padding included, in one forward, by device type."""


def decide_paths(model: PathModel, policy: LayerPolicy, prompts: Sequence[Sequence[int]]) -> list[LayerPath]:
    """The path that the policy takes on each prompt (token ids), in order."""
    found: dict[int, LayerPath] = {}
    for indices, ids, mask in prompt_batches(model, prompts):
        recorded = RecordedPolicy(policy)
        model.states(ids, mask, policy=recorded)
        found.update(zip(indices, recorded.paths(), strict=True))
    return [found[index] for index in range(len(prompts))]


def prompt_batches(model: PathModel, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of prompts of similar length, on the model's device.

    Yields:
        Indices into `prompts`, their ids [B, T] and their mask [B, T], padded on the right.
    """
    limit = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
    for batch in row_batches([len(prompt) for prompt in prompts], limit, model.restrictions):
        yield batch, *masked([prompts[i] for i in batch], model.device)
