"""What a router sees of a question when the frozen model runs along a given path: computed once per question."""

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
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

from ..net.pooling import Pooling


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What features are of.

    Attributes:
        question: whose prompt is run; never its choices or its answer, unless the task shows them in the prompt.
        task: name of the task that renders it.
        chat: whether the prompt goes through the chat template.
        path: along which the model runs, so that each layer is seen as this path reaches it.
    """

    question: Question
    task: str
    chat: bool
    path: LayerPath

    @property
    def key(self) -> str:
        """The digest, by which a fleet knows it."""
        return self.digest

    @property
    def digest(self) -> str:
        """32 hex digits over the question's content, the task, the chat flag and the path; its id plays no part."""
        content = json.dumps([self.question.sha, self.task, self.chat, list(self.path)])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What came of some keys, by their digests.

    Attributes:
        features: [L, W, H] on the CPU in the model's dtype.
        errors: one line each for those without features.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class PooledPaths(FixedPaths):
    """Takes fixed paths, and keeps what a router's heads would be given on the way.

    Args:
        paths: one per row of the batch.
        pooling: the router's.
    """

    def __init__(self, paths: Sequence[LayerPath], pooling: Pooling):
        super().__init__(paths)
        self._pooling = pooling
        self._pooled: list[Tensor] = []

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the paths' actions at this layer."""
        self._pooled.append(self._pooling.pool(hidden, prompt_mask.to(hidden.device)))
        return super().actions(layer, hidden, prompt_mask)

    def features(self) -> Tensor:
        """[B, L, W, H] on the CPU, once the forward is over."""
        return torch.stack([pooled.cpu() for pooled in self._pooled], dim=1)


def feature_batches(model: PathModel, keys: Sequence[FeatureKey], pooling: Pooling) -> Iterator[Computed]:
    """Run the model over the keys' prompts, each along its path, like lengths together.

    Args:
        model: with its tokenizer.
        keys: of any questions and paths.
        pooling: the router's.

    Yields:
        First the keys whose prompt has no tokens or is longer than the context, as errors; then what came of each
        forward. NaN or Inf is an error of the key alone.

    Raises:
        ValueError: a path of another number of layers than the model's.
        InputError: an unknown task, or `chat` with a tokenizer that has no chat template.
    """
    prompts = [_prompt_ids(model, key) for key in keys]
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
        model.logits(ids, mask, policy=policy, logits_to_keep=1)
        yield _sorted_out(batch, policy.features())


def compute_here(model: PathModel, keys: Sequence[FeatureKey], pooling: Pooling) -> Tensor:
    """[N, L, W, H] float32 features of a few keys, in order, computed in this process and kept nowhere.

    Raises:
        PathgenError: naming the first key that has none; errors of `feature_batches` besides.
    """
    found: dict[str, Tensor] = {}
    for computed in feature_batches(model, keys, pooling):
        for error in computed.errors.values():
            raise PathgenError(error)
        found |= computed.features
    return torch.stack([found[key.digest] for key in keys]).float()


def _prompt_ids(model: PathModel, key: FeatureKey) -> list[int]:
    if model.tokenizer is None:
        raise ValueError("features of questions need a PathModel with a tokenizer")
    return find_task(key.task).encode(key.question, model.tokenizer, key.chat)[0]


def _sorted_out(keys: Sequence[FeatureKey], features: Tensor) -> Computed:
    """One forward's rows, the finite apart from the others."""
    finite = features.isfinite().flatten(1).all(1).tolist()
    computed = Computed()
    for key, row, is_finite in zip(keys, features, finite, strict=True):
        if is_finite:
            computed.features[key.digest] = row.clone()  # a view would keep the whole batch alive
        else:
            computed.errors[key.digest] = f"question {key.question.id}: the model gives NaN or Inf along {key.path}"
    return computed
