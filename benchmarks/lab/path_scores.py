"""Choice scores of many paths on many questions, in worker processes of one thread, kept in a file that is added to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lab.digits import from_digits, to_digits
from pathgen.bridges.folder import folder_info
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, choice_margin, find_task

CHUNK_QUESTIONS = 4


@dataclass(frozen=True)
class Template(Task):
    """A multiple-choice task under another wording.

    Attributes:
        wording: with `{}` for the question.
    """

    wording: str = "Question: {}\nAnswer:"

    def prompt(self, question: Question) -> str:
        """The text before the answer."""
        return self.wording.format(question.prompt)


WORDINGS = {
    "arc": Template("arc", "choices"),
    "plain": Template("plain", "choices", wording="Here is a question about science: {}\nThe correct answer is:"),
}
"""Of one task, whose choices are scored by continuation."""
TEMPLATES = {**WORDINGS, "arc-letter": find_task("arc-letter")}
_worker: dict = {}


class PathScores:
    """Scores of (template, question, path), computed once.

    Args:
        file: where they are kept, one JSON object a line; made if absent.
        model: alias or folder.
        workers: processes.
        bridges: folder of the bridges that run where a path skips; None: nothing runs there.

    Raises:
        InputError, ArtefactError: the folder holds no bridges, or damaged ones.
    """

    def __init__(self, file: Path, model: str, workers: int = 2, bridges: Path | None = None):
        self.file, self.model, self.workers, self.bridges = file, model, workers, bridges
        self._digest = folder_info(bridges).digest if bridges else None
        self._known: dict[tuple[str, str, LayerPath], list[float]] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                if line.endswith("}"):  # the last line may be torn
                    entry = json.loads(line)
                    if entry.get("bridges") != self._digest:
                        continue
                    path = from_digits(entry["path"])
                    self._known[entry["template"], entry["question"], path] = entry["scores"]

    def compute(self, template: str, asked: Mapping[Question, Sequence[LayerPath]]) -> None:
        """Run what is not known yet."""
        todo = {
            question: missing
            for question, paths in asked.items()
            if (missing := [path for path in paths if (template, question.sha, path) not in self._known])
        }
        items = list(todo.items())
        chunks = [items[start : start + CHUNK_QUESTIONS] for start in range(0, len(items), CHUNK_QUESTIONS)]
        if not chunks:
            return
        started = time.monotonic()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.file.open("a") as out,
            ProcessPoolExecutor(self.workers, initializer=_load, initargs=(self.model, self.bridges)) as pool,
        ):
            for number, found in enumerate(pool.map(_score, [(template, chunk) for chunk in chunks]), start=1):
                for sha, path, scores in found:
                    self._known[template, sha, path] = scores
                    entry = {"template": template, "question": sha, "path": to_digits(path), "scores": scores}
                    entry |= {"bridges": self._digest} if self._digest else {}
                    out.write(json.dumps(entry) + "\n")
                out.flush()
                if number % 10 == 0 or number == len(chunks):
                    left = (time.monotonic() - started) / number * (len(chunks) - number)
                    print(f"{template}: {number}/{len(chunks)} chunks, {left:.0f} s left", file=sys.stderr, flush=True)

    def scores(self, template: str, question: Question, path: LayerPath) -> list[float]:
        """Summed log-likelihood of each choice, in nats."""
        return self._known[template, question.sha, path]

    def margins(self, template: str, questions: Sequence[Question], paths: Sequence[LayerPath]) -> np.ndarray:
        """[Q, P] margins of gold, in nats."""
        return np.array(
            [
                [
                    choice_margin(self.scores(template, question, path), question.choices, question.gold)
                    for path in paths
                ]
                for question in questions
            ]
        )


def _load(model: str, bridges: Path | None) -> None:
    import torch

    from pathgen.bridges.folder import load_bridges
    from pathgen.engine.path_model import PathModel
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.models.facts import fingerprint
    from pathgen.models.resolving import resolve_model

    torch.set_num_threads(1)
    path_model = PathModel.from_pretrained(model)
    if bridges is not None:
        path_model.use_bridges(load_bridges(bridges, fingerprint(resolve_model(model))))
    _worker.update({name: Evaluator(path_model, task) for name, task in TEMPLATES.items()})


def _score(job: tuple[str, list[tuple[Question, list[LayerPath]]]]) -> list[tuple[str, LayerPath, list[float]]]:
    template, items = job
    evaluator = _worker[template]
    found = []
    for question, paths in items:
        prepared = evaluator.prepare(question)
        for path, evaluation in zip(paths, evaluator.evaluate([(prepared, path) for path in paths]), strict=True):
            found.append((question.sha, path, list(evaluation.choice_scores or ())))
        evaluator.forget(prepared)
    return found
