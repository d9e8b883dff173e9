"""What systems do on questions: the rows of a benchmark, and what they amount to for one system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question


@dataclass(frozen=True, slots=True)
class Effort:
    """What one answer cost.

    Attributes:
        executions: [L] how often each layer ran, over all passes.
        passes: forward passes of the question, each with the head at its scored positions.
        probes: single states that went through the head on top.
    """

    executions: tuple[int, ...]
    passes: int = 1
    probes: int = 0

    @classmethod
    def of_paths(cls, paths: Sequence[LayerPath], probes: int = 0) -> Effort:
        """Of running all these paths."""
        return cls(tuple(np.array(paths).sum(axis=0).tolist()), len(paths), probes)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one system did on one question.

    Attributes:
        question_id: of the question.
        path: along which it was answered.
        correct: whether the answer is right.
        margin: nats; None where the model gave none.
        answer: the text it gave; None where the model gave none.
        effort: what it cost.
    """

    question_id: str
    path: LayerPath
    correct: bool
    margin: float | None
    answer: str | None
    effort: Effort

    @classmethod
    def of(cls, question: Question, evaluation: Evaluation, effort: Effort | None = None) -> Answer:
        """From an evaluation; the effort is that of its path if nothing else is said."""
        text = evaluation.answer
        if question.choices is not None and evaluation.choice_scores:
            text = question.choices[int(np.argmax(evaluation.choice_scores))]
        effort = effort or Effort.of_paths([evaluation.path])
        return cls(question.id, evaluation.path, evaluation.correct, evaluation.margin, text, effort)


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of a system whose settings are swept."""

    setting: float
    accuracy: float
    mean_depth: float


@dataclass(frozen=True, slots=True)
class SystemResult:
    """What a system did on all questions.

    Attributes:
        answers: one a question, in the benchmark's order.
        setting: with which it was run, None where there is nothing to set.
        points: what its other settings give.
    """

    answers: tuple[Answer, ...]
    setting: float | str | None = None
    points: tuple[Point, ...] = ()

    @property
    def paths(self) -> list[LayerPath]:
        """One a question."""
        return [answer.path for answer in self.answers]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[N] whether each answer is right."""
        return np.array([answer.correct for answer in self.answers])

    @property
    def mean_depth(self) -> float:
        """Layer executions of one forward pass."""
        return float(np.mean([path.depth for path in self.paths]))
