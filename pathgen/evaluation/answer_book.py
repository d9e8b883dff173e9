"""Answers by question and path: each pair runs once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cluster.program.progress import ProgressView

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
"""Called with the number of questions just finished, and of the evaluations that ran for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What P paths did on Q questions.

    Attributes:
        correct: [Q, P] bool.
        margin: [Q, P] nats; NaN where the model gave no finite score.
        quality: [Q, P] `½·correct + ½·σ(margin)`, the margin relative to the full path's where answers are generated.
    """

    correct: np.ndarray
    margin: np.ndarray
    quality: np.ndarray

    def of(self, questions: np.ndarray) -> Scores:
        """Those of some of the questions: [Q] bool, or their indices in the order wanted."""
        return Scores(*(getattr(self, name)[questions] for name in self.__slots__))

    @classmethod
    def stack(cls, parts: Sequence[Scores]) -> Scores:
        """The same paths on the questions of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


class AnswerBook:
    """Evaluations of one model on questions of one task.

    Args:
        task: how questions are asked and graded.
        make_evaluator: called once, when something first has to run.
        file: its answers are known from the start, and new ones are added to it.
        together: pairs that fill a batch; None for what suits the device. A question's missing paths always run in one
            batch, because they share their first layers.
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
        self._known: dict[tuple[str, LayerPath], Evaluation] = {}
        for sha, evaluation in file.answers if file else ():
            self.learn(sha, [evaluation])

    @cached_property
    def evaluator(self) -> Evaluator:
        """The model on the task."""
        return self._make_evaluator()

    def learn(self, sha: str, evaluations: Iterable[Evaluation]) -> None:
        """Add evaluations of a question that were made elsewhere. Their paths do not run again on it."""
        self._known.update(((sha, evaluation.path), evaluation) for evaluation in evaluations)

    def answers(
        self,
        asked: Sequence[Asked],
        on_progress: OnProgress = lambda questions, evaluations: None,
    ) -> list[list[Evaluation]]:
        """Run what is not known yet, and return each question's evaluations in the order of its paths.

        New answers go to the file from time to time, at the end, and when an exception ends the call.

        Args:
            asked: questions, each with its paths.
            on_progress: called for the questions whose answers are all known, then after each batch.

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
        """All paths on all questions. What is not known yet runs first, the full path included."""
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
        """Evaluate the missing paths of some questions. Returns how many evaluations that were."""
        evaluator = self.evaluator
        prepared = [(evaluator.prepare(question), paths) for question, paths in batch]
        asked = [(entry, path) for entry, paths in prepared for path in paths]
        for (entry, path), evaluation in zip(asked, evaluator.evaluate(asked), strict=True):
            sha = entry.question.sha
            self._known[sha, path] = self._file.add(sha, evaluation) if self._file else evaluation
        for entry, _ in prepared:
            evaluator.forget(entry)
        return len(asked)


@contextmanager
def answering(what: str, total: int, *, quiet: bool) -> Iterator[OnProgress]:
    """Show how many of `total` questions are done, and how fast those go that need the model.

    Args:
        what: is answered.
        total: questions.
        quiet: show nothing.

    Yields:
        What `AnswerBook` takes as `on_progress`.
    """
    done = evaluated = 0
    with ProgressView(what, total, words="working", quiet=quiet) as view:

        def on_progress(questions: int, evaluations: int) -> None:
            nonlocal done, evaluated
            done += questions
            evaluated += questions if evaluations else 0
            view.update(done, 0, view.rate(evaluated), {})

        yield on_progress
