"""What the formats of Dr.LLM and PoLar share: they hold the right paths of a question, and no margins.

A path is the list of layer indices in the order they run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ArtefactError, InputError
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, PathRecord
from ..questions.parsing import parse_choices, parse_id, parse_text
from ..questions.question import Question
from ..questions.tasks import Task, find_task

IMPORTER = "import"
"""Writer id of imported shards, and of records without one."""
Judge = Callable[[dict[str, Any], LayerPath, Sequence[LayerPath], Sequence[LayerPath]], tuple[bool, LayerPath | None]]
"""From a row, the full path, the right and the wrong paths: whether full depth is right, and the file's best path.

Raises ValueError if the row contradicts itself.
"""


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """The model and task of a file's paths."""

    model_id: str
    fingerprint: str
    num_layers: int
    task: Task

    def check_layers(self, where: str, num_layers: Any) -> None:
        """Raise ArtefactError if the file states another number of layers."""
        if num_layers != self.num_layers:
            raise ArtefactError(
                f"{where} is of a model with {num_layers} layers, {self.model_id} has {self.num_layers}"
            )


@dataclass(frozen=True, slots=True)
class PeerFields:
    """A format's names of a question's fields. `choices` and `gold`, which only we write, have the same names in all.

    `answer` is the right answer as text, our `reference` if there are no `choices`. `base_correct` is 1 if full depth
    answers right, else 0. `good` and `wrong` are paths that answer right or not; `wrong` is empty if a format has none.
    """

    question_id: str
    prompt: str
    answer: str
    base_correct: str
    good: str
    wrong: str = ""

    def write(self, record: PathRecord) -> dict[str, Any]:
        """A record's row in the file; the right answer is the gold choice as the task's answer, or the reference."""
        question = record.question
        answer = question.reference or ""
        if question.choices is not None and question.gold is not None:
            answer = find_task(record.task).continuations(question)[question.gold]
        paths: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
        for evaluation in record.evaluations:
            paths[evaluation.correct].append(evaluation.path.executions)
        return {
            self.question_id: question.id,
            self.prompt: question.prompt,
            self.answer: answer,
            self.base_correct: int(bool(record.base_correct)),
            self.good: paths[True],
            **({self.wrong: paths[False]} if self.wrong else {}),
            "choices": question.choices,
            "gold": question.gold,
        }

    def read(
        self, path: Path, rows: Iterable[dict[str, Any]], target: ImportTarget, judge: Judge
    ) -> Iterator[PathRecord]:
        """The records of a file's rows; InputError names the question that cannot be used."""
        full = LayerPath.full(target.num_layers)
        for number, row in enumerate(rows, start=1):
            try:
                question = self._question(row)
                good = _parse_paths(self.good, row.get(self.good), target.num_layers)
                wrong = _parse_paths(self.wrong, row.get(self.wrong, []), target.num_layers)
                base_correct, preferred = judge(row, full, good, wrong)
            except ValueError as error:
                raise InputError(f"{path}: question {number} ({row.get(self.prompt)!r:.40}): {error}") from error
            verdicts = {full: base_correct, **dict.fromkeys(good, True), **dict.fromkeys(wrong, False)}
            yield _record(question, verdicts, preferred, target)

    def _question(self, row: dict[str, Any]) -> Question:
        """A row's question. Without an id in the row, its id is a digest of the content."""
        question_id, answer, gold = row.get(self.question_id), row.get(self.answer), row.get("gold")
        if question_id is not None:
            question_id = parse_id(question_id, "its id")
        question = Question("", parse_text(row.get(self.prompt), "the question"))
        if row.get("choices") is not None:
            choices, _ = parse_choices(row["choices"])
            if type(gold) is not int or not 0 <= gold < len(choices):
                raise ValueError(f"gold must be an index of its {len(choices)} choices; got {gold!r:.60}")
            question = replace(question, choices=choices, gold=gold)
        elif answer not in (None, ""):
            question = replace(question, reference=parse_text(answer, "the right answer"))
        return replace(question, id=question_id or question.sha)


def parse_path(name: str, value: Any, num_layers: int) -> LayerPath:
    """The path that executes these layer indices.

    Raises:
        ValueError: not a list of indices, a layer runs more than twice, an index is out of range, or the indices do
            not ascend, as when a block runs twice as a whole.
    """
    if not isinstance(value, list) or not all(type(index) is int for index in value):
        raise ValueError(f"{name}: a path is a list of layer indices; got {value!r:.60}")
    layer, times = max(Counter(value).items(), key=lambda item: item[1], default=(0, 0))
    if times > 2:
        raise ValueError(f"{name}: layer {layer} runs {times} times; a layer runs twice at most")
    try:
        return LayerPath.from_executions(value, num_layers)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _parse_paths(name: str, value: Any, num_layers: int) -> list[LayerPath]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list of paths; got {value!r:.60}")
    return [parse_path(name, entry, num_layers) for entry in value]


def _record(
    question: Question, verdicts: dict[LayerPath, bool], preferred: LayerPath | None, target: ImportTarget
) -> PathRecord:
    """A record without margins; the first verdict is of the full path.

    The best path is the shortest right one, even if the file used another cost. Ties go to the preferred path.
    """
    full, base_correct = next(iter(verdicts.items()))
    evaluations = [
        Evaluation(path, correct, None, simulation=simulation)
        for simulation, (path, correct) in enumerate(verdicts.items())
    ]
    right = [path for path, correct in verdicts.items() if correct]
    best = min(right, key=lambda path: (path.depth, path != preferred, path), default=full)
    return PathRecord(
        question=question,
        question_sha=question.sha,
        task=target.task.name,
        status="kept" if base_correct else "improved" if right else "unsolved",
        num_layers=target.num_layers,
        seed=0,
        writer=IMPORTER,
        attempts=1,
        created_ms=time.time_ns() // 1_000_000,
        base_correct=base_correct,
        best_path=best,
        best_depth=best.depth,
        evaluations=evaluations,
        simulations=len(evaluations) - 1,
        layer_executions=sum(path.depth for path in verdicts),
    )
