"""Development questions: what every choice after training is made on, and what the report is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cluster.program.progress import counted
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import LayerPolicy
from pathgen.evaluation.answer_book import AnswerBook, answering
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

from ..data.path_datasets import PathDatasets
from .figures import DevFigures, FolderFigures, RoutedFigures
from .metrics import PathShares
from .routed_scores import RoutedScores, paired_difference, route

CHUNK_ROUTED = 128
"""Questions routed between two looks at progress; a call sorts them into batches of like length."""


@dataclass(frozen=True, slots=True)
class DevQuestion:
    """A question that no label was drawn from.

    Attributes:
        question: the question.
        task: how it is asked.
        folder: of paths that it is from.
    """

    question: Question
    task: str
    folder: str


def dev_questions(
    datasets: PathDatasets, wanted: Callable[[str], bool] = lambda question_id: True
) -> list[DevQuestion]:
    """The questions of path datasets, or those whose id is wanted, in their order."""
    return [DevQuestion(question, run.info.task, run.out) for run, question in datasets.asked() if wanted(question.id)]


class DevSet:
    """Development questions and the model that answers them. A question is run along a path once, however often asked.

    All that is compared is run here, full depth too: what a search has stored of it may be another program's verdict,
    or of another dtype.

    Args:
        model: with its tokenizer.
        questions: of one or more tasks; they fit the model's context, as they have been searched.
        chat: whether prompts go through the chat template.
        quiet: show no progress.

    Attributes:
        questions: by task, so that a batch is of one.
    """

    def __init__(self, model: PathModel, questions: Sequence[DevQuestion], chat: bool, *, quiet: bool = True):
        self.questions = sorted(questions, key=lambda entry: entry.task)  # stable
        self._num_layers, self._quiet = model.num_layers, quiet
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, entry in enumerate(self.questions):
            self._rows[entry.task].append(row)
        self._books = {
            task: AnswerBook(find_task(task), partial(Evaluator, model, find_task(task), chat=chat))
            for task in self._rows
        }

    def route(self, policy: LayerPolicy) -> list[LayerPath]:
        """The path that the policy takes on each question."""
        paths: list[LayerPath] = []
        with counted("routing", len(self.questions), quiet=self._quiet) as on_done:
            for task, rows in self._rows.items():
                for start in range(0, len(rows), CHUNK_ROUTED):
                    part = self._asked(rows[start : start + CHUNK_ROUTED])
                    paths += route(self._books[task].evaluator, policy, part)
                    on_done(len(paths))
        return paths

    def run(self, paths: Sequence[LayerPath]) -> RoutedScores:
        """Each question along its path."""
        correct: list[bool] = []
        with answering("development questions", len(self.questions), quiet=self._quiet) as on_progress:
            for task, rows in self._rows.items():
                asked = [(self.questions[row].question, [paths[row]]) for row in rows]
                correct += [found.correct for (found,) in self._books[task].answers(asked, on_progress)]
        return RoutedScores(tuple(paths), np.array(correct, dtype=bool))

    def run_static(self, path: LayerPath) -> NDArray[np.bool_]:
        """[N] whether one path for all is right."""
        return self.run([path] * len(self.questions)).correct

    @property
    def full(self) -> NDArray[np.bool_]:
        """[N] whether full depth is right."""
        return self.run_static(LayerPath.full(self._num_layers))

    def quality(self, paths: Sequence[LayerPath], limit: int | None) -> NDArray[np.float64]:
        """[Q, P] quality (`pathgen.paths.reward`) of the paths on the first `limit` questions of each task, or all."""
        asked = {task: self._asked(rows[:limit]) for task, rows in self._rows.items()}
        with answering("rounded paths", sum(map(len, asked.values())), quiet=self._quiet) as on_progress:
            return np.concatenate(
                [self._books[task].scores(part, paths, on_progress).quality for task, part in asked.items()]
            )

    def _asked(self, rows: Iterable[int]) -> list[Question]:
        return [self.questions[row].question for row in rows]

    def report(
        self,
        routed: RoutedScores,
        static: NDArray[np.bool_],
        seed: int,
        own_paths: Mapping[str, LayerPath] | None = None,
    ) -> DevFigures:
        """Accuracies, depth and shares, for all and by folder.

        Args:
            routed: of the router.
            static: [N] of one path for all.
            seed: of the bootstrap.
            own_paths: by folder, the best path for it alone; its accuracy stands beside the folder's others.
        """
        folders = np.array([entry.folder for entry in self.questions])
        return DevFigures(
            self._figures(np.ones(len(folders), dtype=bool), routed, static, seed),
            tuple(
                FolderFigures(
                    folder,
                    self._figures(folders == folder, routed, static, seed),
                    self._own_accuracy(folders == folder, (own_paths or {}).get(folder)),
                )
                for folder in dict.fromkeys(entry.folder for entry in self.questions)
            ),
        )

    def _own_accuracy(self, among: NDArray[np.bool_], path: LayerPath | None) -> float | None:
        """Of one path on some questions; the others are left at full depth, which has been run."""
        if path is None:
            return None
        full = LayerPath.full(self._num_layers)
        return float(self.run([path if mine else full for mine in among]).correct[among].mean())

    def _figures(
        self, among: NDArray[np.bool_], routed: RoutedScores, static: NDArray[np.bool_], seed: int
    ) -> RoutedFigures:
        shares = PathShares.of(np.array(routed.paths)[among])
        full = self.full[among]
        difference = paired_difference(routed.correct[among], full, seed)
        return RoutedFigures(
            dev_questions=int(among.sum()),
            off_full_share=shares.off_full,
            off_common_share=shares.off_common,
            routed_accuracy=float(routed.correct[among].mean()),
            full_accuracy=float(full.mean()),
            static_accuracy=float(static[among].mean()),
            delta_vs_full=difference.delta,
            delta_ci95=difference.ci95,
            mean_depth=shares.mean_depth,
        )
