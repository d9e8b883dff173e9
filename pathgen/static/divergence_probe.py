"""Runs paths on the questions of several sources, and compares them with full depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..paths.layer_path import LayerPath
from ..questions.chat import Chat
from ..questions.question import Question
from ..questions.tasks import Task
from .divergence_paths import DivergenceEntry
from .draw import Asked

if TYPE_CHECKING:
    from ..engine.path_model import PathModel
    from ..evaluation.divergence import Difference, DivergenceMeter
    from ..evaluation.evaluator import Prepared


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Questions, and how they are asked."""

    task: Task
    chat: Chat
    questions: Sequence[Question]


class Probe:
    """Compares paths with full depth on questions of several sources."""

    def __init__(self, model: PathModel, sources: Sequence[Source]):
        from ..evaluation.divergence import DivergenceMeter
        from ..evaluation.evaluator import Evaluator

        self.model = model
        evaluators = [Evaluator(model, source.task, chat=source.chat) for source in sources]
        self._meters: list[DivergenceMeter] = [DivergenceMeter(evaluator) for evaluator in evaluators]
        self._prepared: dict[str, Prepared] = {}

    @property
    def forward_tokens(self) -> float:
        """Token executions of layers so far, over the number of layers."""
        done = sum(meter.evaluator.executor.work.token_layers for meter in self._meters)
        return done / self.model.num_layers

    def measure(self, asked: Sequence[Asked], paths: Sequence[LayerPath]) -> list[list[Difference]]:
        """[Q][P] differences, one source after another."""
        found = []
        for index, meter in enumerate(self._meters):
            mine = [self._prepare(meter, entry.question) for entry in asked if entry.run == index]
            found += meter.measure(mine, paths) if mine else []
        return found

    def divergences(self, asked: Sequence[Asked], paths: Sequence[LayerPath]) -> np.ndarray:
        """[P] mean divergences over questions, in nats."""
        found = self.measure(asked, paths)
        return np.array([[one.divergence for one in row] for row in found]).mean(axis=0)

    def entries(
        self,
        asked: Sequence[Asked],
        paths: Sequence[LayerPath],
        flops_ratio: Callable[[LayerPath], float],
        on_path: Callable[[int], object],
    ) -> list[DivergenceEntry]:
        """What the paths are worth on these questions."""
        columns = zip(*self.measure(asked, paths), strict=True)
        entries = []
        for path, column in zip(paths, columns, strict=True):
            divergence, agreement = (
                _mean_with_error([getattr(one, name) for one in column]) for name in ("divergence", "agreement")
            )
            right = [one.correct for one in column if one.correct is not None]
            accuracy = float(np.mean(right)) if len(right) == len(column) else None
            entries.append(DivergenceEntry(path, *divergence, *agreement, accuracy, flops_ratio(path)))
            on_path(1)
        return entries

    def forget(self, asked: Sequence[Asked]) -> None:
        """Free the states of these questions."""
        for entry in asked:
            if (prepared := self._prepared.pop(entry.question.sha, None)) is not None:
                self._meters[entry.run].forget([prepared])

    def _prepare(self, meter: DivergenceMeter, question: Question) -> Prepared:
        if question.sha not in self._prepared:
            self._prepared[question.sha] = meter.evaluator.prepare(question)
        return self._prepared[question.sha]


def _mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over questions, and its standard error."""
    if not np.isfinite(values).all():
        return math.inf, math.inf
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
