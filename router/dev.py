"""Development questions: what every choice after training is made on, and what the report is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathgen.actions import LayerPath
from pathgen.evaluator import Evaluator
from pathgen.model import LayerPolicy, PathModel
from pathgen.questions import Question
from pathgen.reward import path_quality
from pathgen.tasks import find_task

from .metrics import PathShares
from .routed import RoutedScores, paired_difference, route, run_paths


@dataclass(frozen=True, slots=True)
class DevQuestion:
    """A question that no label was drawn from.

    Attributes:
        question: the question.
        task: how it is asked.
        folder: of paths that it is from.
        base_correct: whether full depth is right, as the search found.
    """

    question: Question
    task: str
    folder: str
    base_correct: bool


class DevSet:
    """Development questions and the model that answers them.

    Args:
        model: with its tokenizer.
        questions: of one or more tasks; they fit the model's context, as they have been searched.
        chat: whether prompts go through the chat template.

    Attributes:
        questions: by task, so that a batch is of one.
        full: [N] whether full depth is right.
    """

    def __init__(self, model: PathModel, questions: Sequence[DevQuestion], chat: bool):
        self.questions = sorted(questions, key=lambda entry: entry.task)  # stable
        self.full = np.array([entry.base_correct for entry in self.questions])
        self._by_task: dict[str, list[Question]] = defaultdict(list)
        for entry in self.questions:
            self._by_task[entry.task].append(entry.question)
        self._evaluators = {task: Evaluator(model, find_task(task), chat=chat) for task in self._by_task}

    def route(self, policy: LayerPolicy) -> list[LayerPath]:
        """The path that the policy takes on each question."""
        return [
            path
            for task, questions in self._by_task.items()
            for path in route(self._evaluators[task], policy, questions)
        ]

    def run(self, paths: Sequence[LayerPath], on_done: Callable[[int], None] = lambda done: None) -> RoutedScores:
        """Each question along its path."""
        parts, start = [], 0
        for task, questions in self._by_task.items():
            before = start
            part = run_paths(
                self._evaluators[task],
                questions,
                paths[start : start + len(questions)],
                lambda done, before=before: on_done(before + done),  # type: ignore[misc]
            )
            parts.append(part)
            start += len(questions)
        return RoutedScores(
            tuple(question for part in parts for question in part.questions),
            tuple(path for part in parts for path in part.paths),
            np.concatenate([part.correct for part in parts]),
            np.concatenate([part.margins for part in parts]),
        )

    def run_static(self, path: LayerPath, on_done: Callable[[int], None] = lambda done: None) -> NDArray[np.bool_]:
        """[N] whether one path for all is right; the full path is known already."""
        if path == LayerPath.full(len(path)):
            return self.full
        return self.run([path] * len(self.questions), on_done).correct

    def quality(self, paths: Sequence[LayerPath], limit: int | None) -> NDArray[np.float64]:
        """[Q, P] quality (see `pathgen.reward`) of each path on the first `limit` questions of each task, or on all."""
        rows = []
        for task, questions in self._by_task.items():
            evaluator = self._evaluators[task]
            for question in questions[:limit]:
                prepared = evaluator.prepare(question)
                full = LayerPath.full(evaluator.model.num_layers)
                base, *found = evaluator.evaluate([(prepared, path) for path in (full, *paths)])
                evaluator.forget(prepared)
                relative = (base.margin or 0.0) if find_task(task).generates else 0.0
                rows.append([path_quality(evaluation, relative) for evaluation in found])
        return np.array(rows)

    def report(self, routed: RoutedScores, static: NDArray[np.bool_], seed: int) -> dict[str, Any]:
        """Accuracies, depth and shares, for all and by folder."""
        found = self._figures(np.ones(len(self.full), dtype=bool), routed, static, seed)
        folders = list(dict.fromkeys(entry.folder for entry in self.questions))
        owner = np.array([folders.index(entry.folder) for entry in self.questions])
        found["per_folder"] = [
            {"folder": folder, **self._figures(owner == index, routed, static, seed)}
            for index, folder in enumerate(folders)
        ]
        return found

    def _figures(
        self, among: NDArray[np.bool_], routed: RoutedScores, static: NDArray[np.bool_], seed: int
    ) -> dict[str, Any]:
        shares = PathShares.of(np.array(routed.paths)[among])
        difference = paired_difference(routed.correct[among], self.full[among], seed)
        return {
            "dev_questions": int(among.sum()),
            "off_full_share": shares.off_full,
            "off_common_share": shares.off_common,
            "routed_accuracy": float(routed.correct[among].mean()),
            "full_accuracy": float(self.full[among].mean()),
            "static_accuracy": float(static[among].mean()),
            "delta_vs_full": difference["delta"],
            "delta_ci95": difference["ci95"],
            "mean_depth": shares.mean_depth,
        }
