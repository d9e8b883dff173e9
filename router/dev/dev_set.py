"""Development questions: what every choice after training is made on, and what the report is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.program.progress import counted
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import LayerPolicy
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.reward import path_quality
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.store.searched_run import question_of

from ..data.path_datasets import PathDatasets
from .metrics import PathShares
from .routed_scores import RoutedScores, paired_difference, route, run_paths

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
    return [
        DevQuestion(question_of(record), record.task, out)
        for out, record in datasets.records()
        if wanted(record.question_id)
    ]


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
        self._evaluators = {task: Evaluator(model, find_task(task), chat=chat) for task in self._rows}
        self._correct: dict[tuple[int, LayerPath], bool] = {}

    def route(self, policy: LayerPolicy) -> list[LayerPath]:
        """The path that the policy takes on each question."""
        paths: list[LayerPath] = []
        with counted("routing", len(self.questions), quiet=self._quiet) as on_done:
            for task, rows in self._rows.items():
                for start in range(0, len(rows), CHUNK_ROUTED):
                    paths += route(self._evaluators[task], policy, self._asked(rows[start : start + CHUNK_ROUTED]))
                    on_done(len(paths))
        return paths

    def run(self, paths: Sequence[LayerPath]) -> RoutedScores:
        """Each question along its path."""
        new = {
            task: [row for row in rows if (row, paths[row]) not in self._correct] for task, rows in self._rows.items()
        }
        before = 0
        with counted("development questions", sum(map(len, new.values())), quiet=self._quiet) as on_done:
            for task, rows in new.items():
                chosen = [paths[row] for row in rows]
                part = run_paths(
                    self._evaluators[task],
                    self._asked(rows),
                    chosen,
                    lambda done, before=before: on_done(before + done),  # type: ignore[misc]
                )
                for row, path, correct in zip(rows, chosen, part.correct, strict=True):
                    self._correct[row, path] = bool(correct)
                before += len(rows)
        return RoutedScores(tuple(paths), np.array([self._correct[row, path] for row, path in enumerate(paths)]))

    def run_static(self, path: LayerPath) -> NDArray[np.bool_]:
        """[N] whether one path for all is right."""
        return self.run([path] * len(self.questions)).correct

    @property
    def full(self) -> NDArray[np.bool_]:
        """[N] whether full depth is right."""
        return self.run_static(LayerPath.full(self._num_layers))

    def quality(self, paths: Sequence[LayerPath], limit: int | None) -> NDArray[np.float64]:
        """[Q, P] quality (`pathgen.paths.reward`) of the paths on the first `limit` questions of each task, or all."""
        found: list[list[float]] = []
        with counted(
            "rounded paths", sum(len(rows[:limit]) for rows in self._rows.values()), quiet=self._quiet
        ) as on_done:
            for task, rows in self._rows.items():
                for question in self._asked(rows[:limit]):
                    found.append(self._qualities(task, question, paths))
                    on_done(len(found))
        return np.array(found)

    def _qualities(self, task: str, question: Question, paths: Sequence[LayerPath]) -> list[float]:
        """[P] of one question; the paths share what they have in common."""
        evaluator = self._evaluators[task]
        prepared = evaluator.prepare(question)
        full = LayerPath.full(self._num_layers)
        base, *found = evaluator.evaluate([(prepared, path) for path in (full, *paths)])
        evaluator.forget(prepared)
        relative = (base.margin or 0.0) if find_task(task).generates else 0.0
        return [path_quality(evaluation, relative) for evaluation in found]

    def _asked(self, rows: Iterable[int]) -> list[Question]:
        return [self.questions[row].question for row in rows]

    def report(
        self,
        routed: RoutedScores,
        static: NDArray[np.bool_],
        seed: int,
        own_paths: Mapping[str, LayerPath] | None = None,
    ) -> dict[str, Any]:
        """Accuracies, depth and shares, for all and by folder.

        Args:
            routed: of the router.
            static: [N] of one path for all.
            seed: of the bootstrap.
            own_paths: by folder, the best path for it alone; its accuracy stands beside the folder's others.
        """
        found = self._figures(np.ones(len(self.questions), dtype=bool), routed, static, seed)
        folders = list(dict.fromkeys(entry.folder for entry in self.questions))
        owner = np.array([folders.index(entry.folder) for entry in self.questions])
        found["per_folder"] = [
            {
                "folder": folder,
                **self._figures(owner == index, routed, static, seed),
                "own_static_accuracy": self._own_accuracy(owner == index, (own_paths or {}).get(folder)),
            }
            for index, folder in enumerate(folders)
        ]
        return found

    def _own_accuracy(self, among: NDArray[np.bool_], path: LayerPath | None) -> float | None:
        """Of one path on some questions; the others are left at full depth, which has been run."""
        if path is None:
            return None
        full = LayerPath.full(self._num_layers)
        return float(self.run([path if mine else full for mine in among]).correct[among].mean())

    def _figures(
        self, among: NDArray[np.bool_], routed: RoutedScores, static: NDArray[np.bool_], seed: int
    ) -> dict[str, Any]:
        shares = PathShares.of(np.array(routed.paths)[among])
        full = self.full[among]
        difference = paired_difference(routed.correct[among], full, seed)
        return {
            "dev_questions": int(among.sum()),
            "off_full_share": shares.off_full,
            "off_common_share": shares.off_common,
            "routed_accuracy": float(routed.correct[among].mean()),
            "full_accuracy": float(full.mean()),
            "static_accuracy": float(static[among].mean()),
            "delta_vs_full": difference["delta"],
            "delta_ci95": difference["ci95"],
            "mean_depth": shares.mean_depth,
        }
