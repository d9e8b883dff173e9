"""Features: what a router sees of a question when the frozen model runs along a given path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import PathgenError
from pathgen.evaluation.decided_paths import prompt_batches
from pathgen.evaluation.evaluator import context_tokens
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.chat import Chat
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

from ..net.pooling import Pooling


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """The question, task and path that features belong to.

    Attributes:
        question: only its prompt runs, so its choices and answer are seen only if the task shows them there.
        task: name of the task that makes the prompt.
        chat: whether the prompt goes through the chat template, and on which day if that counts.
        path: along which the model runs; each layer's state is the one that this path gives it.
    """

    question: Question
    task: str
    chat: Chat
    path: LayerPath

    @property
    def key(self) -> str:
        """The digest, which names it in a fleet."""
        return self.digest

    @property
    def digest(self) -> str:
        """32 hex digits over the question's content (not its id), the task, the chat flag and the path."""
        content = json.dumps([self.question.sha, self.task, self.chat, list(self.path)])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """Results of some keys, by their digests.

    Attributes:
        features: [L, W, H] on the CPU in the model's dtype.
        errors: one line for each key without features.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class PooledPaths(FixedPaths):
    """Takes fixed paths, one per row of the batch, and keeps the inputs of a router's heads on the way."""

    def __init__(self, paths: Sequence[LayerPath], pooling: Pooling):
        super().__init__(paths)
        self._pooling = pooling
        self._pooled: list[Tensor] = []

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the paths' actions at this layer."""
        self._pooled.append(self._pooling.pool(hidden, prompt_mask.to(hidden.device)))
        return super().actions(layer, hidden, prompt_mask)

    def features(self) -> Tensor:
        """[B, L, W, H] on the CPU, after the forward."""
        return torch.stack([pooled.cpu() for pooled in self._pooled], dim=1)


def feature_batches(model: PathModel, keys: Sequence[FeatureKey], pooling: Pooling) -> Iterator[Computed]:
    """Run the model over the keys' prompts, each along its path, like lengths together.

    Yields:
        First the errors of keys whose prompt has no tokens or exceeds the context; then the results of each
        forward. NaN or Inf is an error of its key alone.

    Raises:
        ValueError: the model has no tokenizer, or a path has another number of layers.
        InputError: an unknown task, or `chat` with a tokenizer that has no chat template.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ValueError("features of questions need a PathModel with a tokenizer")
    prompts = [find_task(key.task).encode(key.question, tokenizer, key.chat)[0] for key in keys]
    limit = context_tokens(model.config)
    refused = {
        key.digest: f"question {key.question.id}: {len(ids)} tokens in its prompt, the model takes 1 to {limit}"
        for key, ids in zip(keys, prompts, strict=True)
        if not 1 <= len(ids) <= limit
    }
    if refused:
        yield Computed(errors=refused)
    fitting = [index for index, key in enumerate(keys) if key.digest not in refused]
    for places, ids, mask in prompt_batches(model, [prompts[index] for index in fitting]):
        batch = [keys[fitting[place]] for place in places]
        policy = PooledPaths([key.path for key in batch], pooling)
        model.states(ids, mask, policy=policy)
        yield _sorted_out(batch, policy.features())


def compute_here(model: PathModel, keys: Sequence[FeatureKey], pooling: Pooling) -> Tensor:
    """[N, L, W, H] float32 features of a few keys, in order, computed in this process and not stored.

    Raises:
        PathgenError: a key has no features; other errors as `feature_batches`.
    """
    found: dict[str, Tensor] = {}
    for computed in feature_batches(model, keys, pooling):
        for error in computed.errors.values():
            raise PathgenError(error)
        found |= computed.features
    return torch.stack([found[key.digest] for key in keys]).float()


def _sorted_out(keys: Sequence[FeatureKey], features: Tensor) -> Computed:
    """One forward's rows: features where they are finite, else errors."""
    computed = Computed()
    for key, row in zip(keys, features, strict=True):
        if row.isfinite().all():
            computed.features[key.digest] = row.clone()  # a view would keep the whole batch alive
        else:
            computed.errors[key.digest] = f"question {key.question.id}: the model gives NaN or Inf along {key.path}"
    return computed
