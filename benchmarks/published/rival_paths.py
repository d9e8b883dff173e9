"""Other ways to choose the layers that one path skips for all questions: by accuracy, as one run, and at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.evaluation.decided_paths import prompt_batches
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.paths.layer_path import LayerAction, LayerPath, Move

NEVER = -1e9
"""Margin, in nats, of a path without finite scores."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One step of a greedy removal.

    Attributes:
        path: with one layer less than before.
        questions: on which the accuracies were measured.
        forward_tokens: of this step: token executions of layers, over the number of layers.
    """

    path: LayerPath
    questions: int
    forward_tokens: float


def greedy_removals(
    evaluator: Evaluator, questions: Sequence[Prepared], path: LayerPath, count: int, tokens: float
) -> Iterator[Removal]:
    """Remove one layer after another, each time the one without which most questions are answered right.

    This is how TALE (task-aware layer elimination) removes layers. Equal accuracies are told apart by the mean margin
    of the right choice, which TALE does not do. A step uses as many of the questions, in their order, as at least
    `tokens` forward tokens of work allow.
    """
    for _ in range(count):
        removals = [Move(layer, LayerAction.SKIP) for layer, action in enumerate(path) if action]
        candidates = [removal.apply(path) for removal in removals]
        totals = np.zeros((len(candidates), 2))
        before, used = forward_tokens(evaluator), 0
        for prepared in questions:
            found = evaluator.evaluate([(prepared, candidate) for candidate in candidates])
            totals += [[one.correct, NEVER if one.margin is None else one.margin] for one in found]
            used += 1
            if forward_tokens(evaluator) - before >= tokens:
                break
        path = candidates[max(range(len(candidates)), key=lambda index: tuple(totals[index]))]
        yield Removal(path, used, forward_tokens(evaluator) - before)


def forward_tokens(evaluator: Evaluator) -> float:
    """Token executions of layers so far, over the number of layers, as `pathgen static` counts them."""
    return evaluator.executor.work.token_layers / evaluator.model.num_layers


def random_path(num_layers: int, skips: int, seed: int) -> LayerPath:
    """A path that skips layers drawn at random."""
    skipped = np.random.default_rng((seed, skips)).choice(num_layers, skips, replace=False)
    return LayerPath(int(layer not in skipped) for layer in range(num_layers))


def run_path(num_layers: int, run: range) -> LayerPath:
    """The path that skips one run of layers."""
    return LayerPath(int(layer not in run) for layer in range(num_layers))


@torch.inference_mode()
def least_changing_runs(model: PathModel, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[range]:
    """Of each length the run of layers whose states before and after it have the highest mean cosine.

    So ReplaceMe (arXiv 2505.02819, section 3.1) chooses its run. `prompts` are token ids.
    """
    starts = [(length, first) for length in lengths for first in range(model.num_layers - length + 1)]
    similarity = dict.fromkeys(starts, 0.0)
    for _, ids, mask in prompt_batches(model, prompts):
        states: list[Tensor] = []

        def watch(index: int, hidden: Tensor, *args: Any, states: list[Tensor] = states, **kwargs: Any) -> Any:
            after = model.run_layer(index, hidden, args, kwargs)
            states += [after] if index else [hidden, after]
            return model.as_returned(index, after)

        with model.mode(watch):
            model.run_body(**forward_inputs(ids, mask))
        for length, first in starts:
            cosine = torch.cosine_similarity(states[first].float(), states[first + length].float(), dim=-1)
            similarity[length, first] += float(cosine[mask.bool()].sum())
    best = [
        max((first for of, first in starts if of == length), key=lambda f: similarity[length, f]) for length in lengths
    ]
    return [range(first, first + length) for first, length in zip(best, lengths, strict=True)]
