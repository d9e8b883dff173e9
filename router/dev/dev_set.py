"""Development questions: choices after training are made on them, and the report is about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress, groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.program.progress import counted
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import Cascade, LayerPolicy
from pathgen.evaluation.agreement import same_answer
from pathgen.evaluation.answer_book import AnswerBook
from pathgen.evaluation.evaluator import Evaluator
from pathgen.evaluation.intervals import paired_difference
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.chat import Chat
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task

from ..data.path_datasets import PathDatasets
from .figures import DevFigures, FolderFigures, RoutedFigures
from .metrics import PathShares
from .routed_scores import RoutedScores, prompt_gaps, route

T = TypeVar("T")

CHUNK_ROUTED = 128
"""Questions routed in one call, which sorts them into batches of like length; then progress is shown."""


@dataclass(frozen=True, slots=True)
class DevQuestion:
    """A question that is not trained on, its task, and the folder of paths that it is from."""

    question: Question
    task: Task
    folder: str


def dev_questions(
    datasets: PathDatasets, wanted: Callable[[str], bool] = lambda question_id: True
) -> list[DevQuestion]:
    """The questions of path datasets whose id is wanted, in their order."""
    return [DevQuestion(question, run.task, run.out) for run, question in datasets.asked() if wanted(question.id)]


class DevSet:
    """Development questions and the model that answers them. Each answer, and each gap after a prompt, is found once.

    All paths run here, the full one too: a stored answer may be of another program or another dtype.

    Args:
        model: with its tokenizer.
        questions: of one or more tasks; they fit the model's context.

    Attributes:
        questions: sorted by task, because a batch is of one task.
        num_layers: of the model.
        pinned_layers: of the model, which always execute once.
    """

    def __init__(self, model: PathModel, questions: Sequence[DevQuestion], chat: Chat, *, quiet: bool = True):
        self.questions = sorted(questions, key=lambda entry: entry.task.name)  # stable
        self.num_layers, self._quiet = model.num_layers, quiet
        self.pinned_layers = model.pinned_layers
        self._gaps: dict[tuple[str, LayerPath], dict[str, float]] = {}
        self._parts: list[tuple[AnswerBook, list[Question]]] = []
        for task, entries in groupby(self.questions, key=lambda entry: entry.task):
            book = AnswerBook(task, partial(Evaluator, model, task, chat=chat))
            self._parts.append((book, [entry.question for entry in entries]))

    def route(self, policy: LayerPolicy) -> list[LayerPath]:
        """The path that the policy takes on each question."""
        if isinstance(policy, Cascade):
            full = LayerPath.full(self.num_layers)
            return [policy.path if gap >= policy.gap else full for gap in self.next_token_gaps(policy.path)]
        return self._of_prompts("routing", lambda evaluator, chunk: route(evaluator, policy, chunk))

    def part(self, wanted: Callable[[Question], bool]) -> DevSet:
        """The questions that are wanted, equal ones once. Answers are shared: none runs again."""
        first = {entry.question.sha: entry for entry in reversed(self.questions)}
        stays = [first[entry.question.sha] is entry and wanted(entry.question) for entry in self.questions]
        found, remaining = copy(self), iter(stays)
        found.questions = list(compress(self.questions, stays))
        found._parts = [(book, [question for question in part if next(remaining)]) for book, part in self._parts]
        return found

    def run(self, paths: Sequence[LayerPath]) -> RoutedScores:
        """Run each question along its own path."""
        correct = [found.correct for found in self._evaluations(paths)]
        return RoutedScores(tuple(paths), np.array(correct, dtype=bool))

    def routed(self, policy: LayerPolicy) -> RoutedScores:
        """Run each question along the path that the policy takes."""
        found = self.run(self.route(policy))
        return replace(found, cascade=policy) if isinstance(policy, Cascade) else found

    def next_token_gaps(self, path: LayerPath) -> NDArray[np.float64]:
        """[N] how far the likeliest token after each prompt is ahead of the second one along a path, in nats."""

        def found(evaluator: Evaluator, chunk: Sequence[Question]) -> list[float]:
            known = self._gaps.setdefault((evaluator.task.name, path), {})
            new = [question for question in chunk if question.sha not in known]
            known.update(zip((question.sha for question in new), prompt_gaps(evaluator, path, new), strict=True))
            return [known[question.sha] for question in chunk]

        return np.array(self._of_prompts("confidence", found))

    def _of_prompts(self, what: str, found: Callable[[Evaluator, Sequence[Question]], Sequence[T]]) -> list[T]:
        """What is found of each question's prompt; `what` names it beside the progress."""
        answers: list[T] = []
        with counted(what, len(self.questions), quiet=self._quiet) as on_done:
            for book, questions in self._parts:
                for start in range(0, len(questions), CHUNK_ROUTED):
                    chunk = questions[start : start + CHUNK_ROUTED]
                    answers += found(book.evaluator, chunk)
                    on_done(len(chunk))
        return answers

    def agreement(self, paths: Sequence[LayerPath]) -> NDArray[np.bool_]:
        """[N] whether each answer along its own path is that of full depth (`pathgen.evaluation.agreement`)."""
        full = self._evaluations([LayerPath.full(self.num_layers)] * len(self.questions))
        compared = zip(self.questions, self._evaluations(paths), full, strict=True)
        return np.array([same_answer(entry.question, found, base) for entry, found, base in compared], dtype=bool)

    def run_static(self, path: LayerPath) -> NDArray[np.bool_]:
        """[N] whether each answer is right along one path for all."""
        return self.run([path] * len(self.questions)).correct

    @property
    def full(self) -> NDArray[np.bool_]:
        """[N] whether each answer is right at full depth."""
        return self.run_static(LayerPath.full(self.num_layers))

    def _evaluations(self, paths: Sequence[LayerPath]) -> list[Evaluation]:
        """One evaluation of each question, along its own path."""
        evaluations: list[Evaluation] = []
        remaining = iter(paths)
        with counted("development questions", len(self.questions), quiet=self._quiet) as on_progress:
            for book, questions in self._parts:
                asked = [(question, [next(remaining)]) for question in questions]
                evaluations += [found for (found,) in book.answers(asked, on_progress)]
        return evaluations

    def quality(self, paths: Sequence[LayerPath], limit: int | None) -> NDArray[np.float64]:
        """[Q, P] quality (`pathgen.paths.reward`) of the paths on the first `limit` questions of each task, or all."""
        asked = [(book, questions[:limit]) for book, questions in self._parts]
        with counted("rounded paths", sum(len(part) for _, part in asked), quiet=self._quiet) as on_progress:
            return np.concatenate([book.scores(part, paths, on_progress).quality for book, part in asked])

    def report(
        self, routed: RoutedScores, static: NDArray[np.bool_], seed: int, own_paths: Mapping[str, LayerPath] = {}
    ) -> DevFigures:
        """Figures of all questions and of each folder; `seed` is of the intervals.

        They compare the router with [N] answers along one static path for all, and, by folder, with the folder's own.
        """
        full, full_path = self.full, LayerPath.full(self.num_layers)

        def figures(among: NDArray[np.bool_]) -> RoutedFigures:
            shares = PathShares.of(np.array(routed.paths)[among])
            same = shares.off_full == 0
            difference = paired_difference(routed.correct[among], full[among], seed, same_paths=same)
            return RoutedFigures(
                dev_questions=int(among.sum()),
                off_full_share=shares.off_full,
                off_common_share=shares.off_common,
                routed_accuracy=float(routed.correct[among].mean()),
                full_accuracy=float(full[among].mean()),
                static_accuracy=float(static[among].mean()),
                delta_vs_full=difference.delta,
                delta_ci95=difference.ci95,
                mean_depth=float(routed.depths[among].mean()),
            )

        per_folder = []
        for folder in dict.fromkeys(entry.folder for entry in self.questions):
            mine = np.array([entry.folder == folder for entry in self.questions])
            own = None
            if path := own_paths.get(folder):
                # The other questions take the full path, which has been run.
                correct = self.run([path if is_mine else full_path for is_mine in mine]).correct
                own = float(correct[mine].mean())
            per_folder.append(FolderFigures(folder, figures(mine), own))
        return DevFigures(figures(np.ones(len(self.questions), dtype=bool)), tuple(per_folder))
