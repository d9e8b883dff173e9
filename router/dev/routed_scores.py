"""Accuracy of the routed model on questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pathgen.engine.policies import Cascade, FixedPaths, LayerPolicy, next_token_gaps
from pathgen.evaluation.decided_paths import decide_paths, prompt_batches
from pathgen.evaluation.evaluator import Evaluator, QuestionError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question


@dataclass(frozen=True, slots=True)
class RoutedScores:
    """The path of each of N questions, [N] whether the answer is right, and the cascade that decided, if one did."""

    paths: tuple[LayerPath, ...]
    correct: NDArray[np.bool_]
    cascade: Cascade | None = None

    @property
    def depths(self) -> NDArray[np.int_]:
        """[N] layer executions on each prompt."""
        return np.array([self.cascade.depth(path) if self.cascade else path.depth for path in self.paths], dtype=int)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.mean())

    @property
    def common_path(self) -> LayerPath:
        """The path of most questions; the first one if several are equal."""
        return Counter(self.paths).most_common(1)[0][0]


def route(evaluator: Evaluator, policy: LayerPolicy, questions: Sequence[Question]) -> list[LayerPath]:
    """The path that the policy takes on each question's prompt.

    Raises:
        QuestionError: one does not fit the model's context.
    """
    prompts = [evaluator.prepare(question).prompt_ids for question in questions]
    return decide_paths(evaluator.model, policy, prompts)


def prompt_gaps(evaluator: Evaluator, path: LayerPath, questions: Sequence[Question]) -> list[float]:
    """How far the likeliest token after each question's prompt is ahead of the second one along a path, in nats.

    Raises:
        QuestionError: one does not fit the model's context.
    """
    model = evaluator.model
    found: dict[int, float] = {}
    prompts = [evaluator.prepare(question).prompt_ids for question in questions]
    for indices, ids, mask in prompt_batches(model, prompts):
        states = model.states(ids, mask, policy=FixedPaths([path] * len(indices)))
        ends = mask.sum(1) - 1  # padded on the right
        last = states[torch.arange(len(indices), device=states.device), ends.to(states.device)]
        found.update(zip(indices, next_token_gaps(model.head(last)).tolist(), strict=True))
    return [found[index] for index in range(len(questions))]


def askable(evaluator: Evaluator, questions: Sequence[Question]) -> list[Question]:
    """The questions that fit the model's context."""
    fitting = []
    for question in questions:
        with suppress(QuestionError):
            evaluator.prepare(question)
            fitting.append(question)
    return fitting
