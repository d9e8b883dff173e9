"""Accuracy of the routed model on questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathgen.engine.policies import LayerPolicy
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.evaluation.evaluator import Evaluator, QuestionError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question


@dataclass(frozen=True, slots=True)
class RoutedScores:
    """The path of each of N questions, and [N] whether the answer is right."""

    paths: tuple[LayerPath, ...]
    correct: NDArray[np.bool_]

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


def askable(evaluator: Evaluator, questions: Sequence[Question]) -> list[Question]:
    """The questions that fit the model's context."""
    fitting = []
    for question in questions:
        with suppress(QuestionError):
            evaluator.prepare(question)
            fitting.append(question)
    return fitting
