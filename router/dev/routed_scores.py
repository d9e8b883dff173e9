"""Accuracy of the routed model on questions, and its paired difference to another."""

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

DRAWS = 10_000


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


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two ways to answer the same questions, compared.

    Attributes:
        delta: accuracy gained.
        ci95: 95 % bootstrap interval of delta over questions.
        discordant: questions won and questions lost.
    """

    delta: float
    ci95: tuple[float, float]
    discordant: tuple[int, int]


def paired_difference(new: NDArray[np.bool_], old: NDArray[np.bool_], seed: int) -> PairedDifference:
    """Compare two rows [N] of right and wrong answers.

    The bootstrap draws how many questions are won, lost, or neither: questions of one kind are exchangeable.

    Raises:
        ValueError: the rows are empty or differ in length.
    """
    if new.shape != old.shape or not new.size:
        raise ValueError(f"two equal rows of answers are needed; got {new.shape} and {old.shape}")
    count = len(new)
    won, lost = int((new & ~old).sum()), int((~new & old).sum())
    shares = np.array([won, lost, count - won - lost]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=DRAWS)  # [draws, 3]
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, [0.025, 0.975])
    return PairedDifference((won - lost) / count, (float(low), float(high)), (won, lost))
