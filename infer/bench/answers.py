"""The answers of a system to the questions of a benchmark, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pathgen.engine.policies import Cascade, LayerPolicy
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions import grading
from pathgen.questions.question import Question


@dataclass(frozen=True, slots=True)
class Effort:
    """The cost of one answer.

    Attributes:
        executions: [L] number of runs of each layer, over all passes.
        skips: [L] number of passes that skip each layer.
        passes: forward passes of the question, each with the head at its scored positions.
        probes: single states that also went through the head.
    """

    executions: tuple[int, ...]
    skips: tuple[int, ...]
    passes: int = 1
    probes: int = 0

    @classmethod
    def of_paths(cls, paths: Sequence[LayerPath], probes: int = 0) -> Effort:
        """The cost of running all these paths."""
        table = np.array(paths)
        skips = (table == 0).sum(axis=0)
        return cls(tuple(table.sum(axis=0).tolist()), tuple(skips.tolist()), len(paths), probes)

    @classmethod
    def of_policy(cls, policy: LayerPolicy, path: LayerPath) -> Effort:
        """The cost of a prompt that ends on this path: a cascade reads one state's logits, and may run layers again."""
        if not isinstance(policy, Cascade):
            return cls.of_paths([path])
        first = cls.of_paths([policy.path], probes=1)
        if path == policy.path:
            return first
        again = tuple(runs + (layer >= policy.fork) for layer, runs in enumerate(first.executions))
        return replace(first, executions=again)


@dataclass(frozen=True, slots=True)
class Answer:
    """One system's answer to one question; the margin is in nats, and None if the model gave NaN or Inf.

    `cut`: a generated answer ended only because it had the most tokens.
    """

    question_id: str
    path: LayerPath
    correct: bool
    margin: float | None
    answer: str | None
    effort: Effort
    cut: bool = False

    @property
    def depth(self) -> int:
        """Layer executions on its prompt; of a search, those of the path that it found."""
        return sum(self.effort.executions) if self.effort.passes == 1 else self.path.depth

    @classmethod
    def of(cls, question: Question, evaluation: Evaluation, effort: Effort | None = None) -> Answer:
        """From an evaluation; the default effort is one pass along its path."""
        text = evaluation.answer
        if question.choices is not None and evaluation.choice_scores:
            text = question.choices[int(np.argmax(evaluation.choice_scores))]
        effort = effort or Effort.of_paths([evaluation.path])
        return cls(question.id, evaluation.path, evaluation.correct, evaluation.margin, text, effort, evaluation.cut)


def same_answer(question: Question, first: Answer, second: Answer) -> bool:
    """Whether both answers are the same, right or wrong, as in `pathgen.evaluation.agreement`."""
    if first.margin is None or second.margin is None:
        return False
    if question.choices is not None:
        return first.answer == second.answer
    return grading.same_answer(first.answer or "", second.answer or "", question.reference or "")


@dataclass(frozen=True, slots=True)
class Point:
    """The result of a system at one of several settings."""

    setting: float
    accuracy: float
    mean_depth: float


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One system's result on all questions.

    Attributes:
        answers: one per question, in the benchmark's order.
        setting: the setting of the system, None if it has none.
        points: results of other settings.
    """

    answers: tuple[Answer, ...]
    setting: float | str | None = None
    points: tuple[Point, ...] = ()

    @property
    def paths(self) -> list[LayerPath]:
        """One per question."""
        return [answer.path for answer in self.answers]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[N] whether each answer is right."""
        return np.array([answer.correct for answer in self.answers])

    @property
    def mean_depth(self) -> float:
        """Layer executions per forward pass over the prompt."""
        return float(np.mean([answer.depth for answer in self.answers]))
