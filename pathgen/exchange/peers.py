"""A question as peers' files have it: which paths answer it right, and no margins. To and from our records."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..paths.layer_path import LayerPath
from ..paths.records import SOLVED, Evaluation, PathRecord
from ..questions.parsing import parse_choices, parse_text
from ..questions.question import Question
from ..questions.tasks import Task, find_task

IMPORTER = "import"
"""Writer id of imported shards, and of records that had none."""


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """What a file's records are of: the model that the paths run through, and the task they were found on."""

    model_id: str
    fingerprint: str
    num_layers: int
    task: Task


@dataclass(frozen=True, slots=True)
class PeerQuestion:
    """One question of a peer's file.

    Attributes:
        question: its choices are None where the file has none; the right answer then is its `reference`.
        base_correct: whether the full path answers right.
        good: paths that do, in the file's order.
        wrong: paths that do not.
        preferred: the file's own best path; it counts among equally short ones.
    """

    question: Question
    base_correct: bool
    good: Sequence[LayerPath]
    wrong: Sequence[LayerPath] = ()
    preferred: LayerPath | None = None

    def to_record(self, target: ImportTarget) -> PathRecord:
        """As a search would have left it, without margins: the full path first, then each other path once.

        The best path is the shortest right one, whatever cost the file's own best was chosen by.
        """
        full = LayerPath.full(target.num_layers)
        verdicts = {full: self.base_correct, **dict.fromkeys(self.good, True), **dict.fromkeys(self.wrong, False)}
        evaluations = [
            Evaluation(path, correct, None, simulation=simulation)
            for simulation, (path, correct) in enumerate(verdicts.items())
        ]
        right = [path for path, correct in verdicts.items() if correct]
        best = min(right, key=lambda path: (path.depth, path != self.preferred, path), default=full)
        return PathRecord(
            question=self.question,
            question_sha=self.question.sha,
            task=target.task.name,
            status="kept" if self.base_correct else "improved" if right else "unsolved",
            num_layers=target.num_layers,
            seed=0,
            writer=IMPORTER,
            attempts=1,
            created_ms=time.time_ns() // 1_000_000,
            base_correct=self.base_correct,
            best_path=best,
            best_depth=best.depth,
            evaluations=evaluations,
            simulations=len(evaluations) - 1,
            layer_executions=sum(path.depth for path in verdicts),
        )


def good_paths(record: PathRecord) -> list[LayerPath]:
    """The paths that answer right, in the order they were tried."""
    return [evaluation.path for evaluation in record.evaluations if evaluation.correct]


def is_solved(record: PathRecord) -> bool:
    """Whether any path answers right."""
    return record.status in SOLVED


def right_answer(record: PathRecord) -> str:
    """The text that counts as right: what the task asks for of the gold choice, or the reference."""
    question = record.question
    if question.choices is None or question.gold is None:
        return question.reference or ""
    return find_task(record.task).continuations(question)[question.gold]


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: it cannot be read, or is no JSON; names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{path}: not JSON: nested too deeply") from error
    except ValueError as error:  # the one limit that Python sets beside the format's own
        raise InputError(f"{path}: not usable JSON: a number in it has thousands of digits") from error


def parse_question(
    where: str,
    *,
    prompt: Any,
    answer: Any = None,
    question_id: Any = None,
    choices: Any = None,
    gold: Any = None,
) -> Question:
    """A question from a peer's fields; its id is made from its content where there is none.

    Raises:
        InputError: a field that `pathgen generate` would not take of a source either, or a gold that is no index.
    """
    try:
        name = None if question_id is None else parse_text(question_id, "its id")
        text = parse_text(prompt, "the question")
        if choices is None:
            reference = None if answer in (None, "") else parse_text(answer, "the right answer")
            question = Question("", text, reference=reference)
        else:
            texts, _ = parse_choices(choices)
            if type(gold) is not int or not 0 <= gold < len(texts):
                raise ValueError(f"gold must be an index of its {len(texts)} choices; got {gold!r:.60}")
            if len(set(texts)) == 1:
                raise ValueError("its choices are all the same")
            question = Question("", text, texts, gold)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return replace(question, id=name or question.sha)


def parse_paths(where: str, name: str, value: Any, num_layers: int) -> list[LayerPath]:
    """A list of paths; see `parse_path`."""
    if not isinstance(value, list):
        raise InputError(f"{where}: {name} must be a list of paths; got {value!r:.60}")
    return [parse_path(where, name, entry, num_layers) for entry in value]


def parse_path(where: str, name: str, value: Any, num_layers: int) -> LayerPath:
    """A path from the layer indices that it executes, in order.

    Raises:
        InputError: it is no list of indices, a layer runs more than twice, an index is out of range, or the
            indices do not ascend (a block run twice as a whole is no path of ours).
    """
    if not isinstance(value, list) or not all(type(index) is int for index in value):
        raise InputError(f"{where}: {name}: a path is a list of layer indices; got {value!r:.60}")
    layer, times = max(Counter(value).items(), key=lambda item: item[1], default=(0, 0))
    if times > 2:
        raise InputError(f"{where}: {name}: layer {layer} runs {times} times; a layer runs twice at most")
    try:
        return LayerPath.from_executions(value, num_layers)
    except ValueError as error:
        raise InputError(f"{where}: {name}: {error}") from error
