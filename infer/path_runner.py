"""Questions run along paths, each pair once however many systems take it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pathgen.actions import LayerPath
from pathgen.evaluator import Evaluator
from pathgen.progress import ProgressView
from pathgen.questions import Question
from pathgen.records import Evaluation


class PathRunner:
    """Evaluations of (question, path) pairs.

    Args:
        evaluator: the model on the questions' task.
        batch_size: questions that run together.
        quiet: no progress.
    """

    def __init__(self, evaluator: Evaluator, batch_size: int, *, quiet: bool = True):
        self.evaluator = evaluator
        self.batch_size = batch_size
        self._quiet = quiet
        self._known: dict[tuple[str, LayerPath], Evaluation] = {}

    def run(self, what: str, questions: Sequence[Question], paths: Sequence[LayerPath]) -> list[Evaluation]:
        """Each question along its path.

        Args:
            what: is run, for the progress line.
            questions: that fit the model's context.
            paths: one each.
        """
        pairs = list(zip(questions, paths, strict=True))
        new = list({(q.sha, path): (q, path) for q, path in pairs if (q.sha, path) not in self._known}.values())
        started = time.monotonic()
        with ProgressView(what, len(new), 0, self.evaluator.model.num_layers, quiet=self._quiet) as view:
            for start in range(0, len(new), self.batch_size):
                self._run_batch(new[start : start + self.batch_size])
                done = min(start + self.batch_size, len(new))
                view.update(done, 0, done / max(time.monotonic() - started, 1e-9), {})
        return [self._known[question.sha, path] for question, path in pairs]

    def _run_batch(self, pairs: Sequence[tuple[Question, LayerPath]]) -> None:
        asked = [(self.evaluator.prepare(question), path) for question, path in pairs]
        for (prepared, path), evaluation in zip(asked, self.evaluator.evaluate(asked), strict=True):
            self._known[prepared.question.sha, path] = evaluation
        for prepared, _ in asked:
            self.evaluator.forget(prepared)
