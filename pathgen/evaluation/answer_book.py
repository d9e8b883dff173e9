"""Answers by question and path; each pair runs only once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation
from ..paths.reward import path_quality
from ..questions.question import Question
from ..questions.tasks import Task

if TYPE_CHECKING:
    from .answer_file import AnswerFile
    from .evaluator import Evaluator

PAIRS_TOGETHER = {"cpu": 16, "cuda": 512}
"""Pairs that fill a batch, by device type."""

Asked = tuple[Question, Sequence[LayerPath]]
"""A question and the paths to run it along."""
OnProgress = Callable[[int, int], object]
"""Called with the number of questions just finished, and the number of evaluations run for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Results of P paths on Q questions, each [Q, P]."""

    correct: np.ndarray
    """bool"""
    margin: np.ndarray
    """In nats; NaN where the model gave no finite score."""
    quality: np.ndarray
    """`path_quality`; for generated answers, the margin is relative to the full path's."""

    def of(self, questions: np.ndarray) -> Scores:
        """The rows of some questions: a bool mask [Q], or indices."""
        return Scores(*(getattr(self, name)[questions] for name in self.__slots__))

    @classmethod
    def stack(cls, parts: Sequence[Scores]) -> Scores:
        """The questions of all parts, one part after another; the paths are the same."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


class AnswerBook:
    """Evaluations of one model on questions of one task.

    Args:
        task: the task of the questions.
        make_evaluator: called once, before the first run.
        file: its answers are known from the start; new answers are added to it.
        together: pairs that fill a batch; None: the default of the device. A question's missing paths always run in
            one batch, because they share their first layers.
    """

    def __init__(
        self,
        task: Task,
        make_evaluator: Callable[[], Evaluator],
        *,
        file: AnswerFile | None = None,
        together: int | None = None,
    ):
        self._task = task
        self._make_evaluator = make_evaluator
        self._together = together
        self._file = file
        self._known = {(sha, evaluation.path): evaluation for sha, evaluation in (file.answers if file else ())}

    @cached_property
    def evaluator(self) -> Evaluator:
        """The model on the task."""
        return self._make_evaluator()

    def learn(self, sha: str, evaluations: Iterable[Evaluation]) -> None:
        """Add evaluations of a question from elsewhere. Their paths do not run on it again."""
        self._known.update(((sha, evaluation.path), evaluation) for evaluation in evaluations)

    def answers(
        self,
        asked: Sequence[Asked],
        on_progress: OnProgress = lambda questions, evaluations: None,
    ) -> list[list[Evaluation]]:
        """Run the pairs that are not known, and return each question's evaluations in the order of its paths.

        New answers are written to the file every SAVE_EVERY_S, at the end, and when an exception ends the call.
        `on_progress` is called once for the questions with no missing answer, then after each batch.

        Raises:
            QuestionError: a question does not fit the model.
            PathgenError: the file cannot be written.
        """
        shas = [question.sha for question, _ in asked]
        wanted: set[tuple[str, LayerPath]] = set()
        missing: list[Asked] = []
        for sha, (question, paths) in zip(shas, asked, strict=True):
            new = [p for p in dict.fromkeys(paths) if (sha, p) not in self._known and (sha, p) not in wanted]
            if new:
                missing.append((question, new))
                wanted.update((sha, path) for path in new)
        if len(missing) < len(asked):
            on_progress(len(asked) - len(missing), 0)
        try:
            for batch in self._batches(missing):
                on_progress(len(batch), self._run(batch))
                if self._file:
                    self._file.save(if_due=True)
        finally:
            if self._file:
                self._file.save()
        return [[self._known[sha, path] for path in paths] for sha, (_, paths) in zip(shas, asked, strict=True)]

    def scores(
        self,
        questions: Sequence[Question],
        paths: Sequence[LayerPath],
        on_progress: OnProgress = lambda questions, evaluations: None,
    ) -> Scores:
        """The scores of all paths on all questions. Missing pairs run first, the full path included."""
        full = LayerPath.full(len(paths[0]))
        found = self.answers([(question, [full, *paths]) for question in questions], on_progress)
        correct, margin, quality = np.empty((3, len(questions), len(paths)))
        for row, (base, *evaluations) in enumerate(found):
            relative = (base.margin or 0.0) if self._task.generates else 0.0
            correct[row] = [evaluation.correct for evaluation in evaluations]
            margin[row] = [np.nan if evaluation.margin is None else evaluation.margin for evaluation in evaluations]
            quality[row] = [path_quality(evaluation, relative) for evaluation in evaluations]
        return Scores(correct.astype(bool), margin, quality)

    def _batches(self, missing: Sequence[Asked]) -> Iterator[list[Asked]]:
        if not missing:
            return
        limit = self._together or PAIRS_TOGETHER.get(self.evaluator.model.device.type, PAIRS_TOGETHER["cuda"])
        batch: list[Asked] = []
        for entry in missing:
            batch.append(entry)
            if sum(len(paths) for _, paths in batch) >= limit:
                yield batch
                batch = []
        if batch:
            yield batch

    def _run(self, batch: Sequence[Asked]) -> int:
        """Evaluate the missing paths of some questions. Returns the number of evaluations."""
        evaluator = self.evaluator
        prepared = [(evaluator.prepare(question), paths) for question, paths in batch]
        asked = [(entry, path) for entry, paths in prepared for path in paths]
        for (entry, path), evaluation in zip(asked, evaluator.evaluate(asked), strict=True):
            sha = entry.question.sha
            self._known[sha, path] = self._file.add(sha, evaluation) if self._file else evaluation
        for entry, _ in prepared:
            evaluator.forget(entry)
        return len(asked)
