"""Questions run along paths, each pair once however many systems take it."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.program.progress import counted
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question

from .answers import Answer


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
        self.quiet = quiet
        self._known: dict[tuple[str, LayerPath], Evaluation] = {}

    def remember(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """Take what an earlier call found: these pairs are not run again."""
        for question, found in zip(questions, answers, strict=True):
            self._known[question.sha, found.path] = Evaluation(
                found.path, found.correct, found.margin, answer=found.answer
            )

    def run(self, what: str, questions: Sequence[Question], paths: Sequence[LayerPath]) -> list[Evaluation]:
        """Each question along its path. A question may come with several: they run together and share their work.

        Args:
            what: is run, for the progress line.
            questions: that fit the model's context.
            paths: one each.
        """
        pairs = list(zip(questions, paths, strict=True))
        new: dict[str, dict[LayerPath, Question]] = {}
        for question, path in pairs:
            if (question.sha, path) not in self._known:
                new.setdefault(question.sha, {})[path] = question
        groups = list(new.values())
        done = 0
        with counted(what, sum(map(len, groups)), quiet=self.quiet) as on_done:
            for start in range(0, len(groups), self.batch_size):
                part = groups[start : start + self.batch_size]
                self._run_batch([(question, path) for group in part for path, question in group.items()])
                done += sum(map(len, part))
                on_done(done)
        return [self._known[question.sha, path] for question, path in pairs]

    def _run_batch(self, pairs: Sequence[tuple[Question, LayerPath]]) -> None:
        prepared = {question.sha: self.evaluator.prepare(question) for question, _ in pairs}
        asked = [(prepared[question.sha], path) for question, path in pairs]
        for (entry, path), evaluation in zip(asked, self.evaluator.evaluate(asked), strict=True):
            self._known[entry.question.sha, path] = evaluation
        for entry in prepared.values():
            self.evaluator.forget(entry)
