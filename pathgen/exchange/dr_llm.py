"""Dr.LLM's file of search results: one JSON object of parallel lists, one entry a question.

Their search writes and their trainer reads `model_name`, `dataset`, and the lists `questions`, `original_correct`
(0 or 1), `mcts_correct` (0 or 1), `improved_cases`, `path_lengths`, `unique_layers`, `best_path`, `good_paths` and
`best_response` (the right answer). A path is the list of layer indices in the order they run. Beside these we write
what their trainer does not look at and an import needs: `num_layers`, and the lists `question_ids`, `choices` and
`gold`. Questions are the bare texts, not rendered as a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import ArtefactError, InputError
from ..paths.layer_path import LayerPath
from ..paths.records import PathRecord
from ..questions.tasks import TASKS
from ..store.run_json import RunInfo
from .peers import (
    ImportTarget,
    PeerQuestion,
    good_paths,
    is_solved,
    parse_path,
    parse_paths,
    parse_question,
    read_json,
    right_answer,
)

NEEDED = ("questions", "best_path", "good_paths", "original_correct")
WELCOME = ("question_ids", "best_response", "choices", "gold")
"""The lists that an import reads; others are left alone."""


def write_drllm(records: Iterable[PathRecord], info: RunInfo, num_layers: int, file: TextIO) -> None:
    """Write the object; all records are in memory at once, as the format demands."""
    rows = [_entry(record) for record in records]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    json.dump({"model_name": info.model_id, "dataset": info.task, "num_layers": num_layers} | columns, file)
    file.write("\n")


def read_drllm(path: Path, target: ImportTarget) -> Iterator[PathRecord]:
    """The questions of a file.

    Raises:
        InputError: no JSON, a list is missing or of another length, or an entry cannot be; the question is named.
        ArtefactError: the file says that its model has another number of layers, or names another task of ours.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold one JSON object of lists, not {type(content).__name__}")
    if missing := [name for name in NEEDED if name not in content]:
        raise InputError(f"{path}: no list {', '.join(missing)}; a dr-llm file has {', '.join(NEEDED)}")
    stated = content.get("num_layers", target.num_layers)
    if stated != target.num_layers:
        raise ArtefactError(f"{path} is of a model with {stated} layers, {target.model_id} has {target.num_layers}")
    found_on = content.get("dataset")  # theirs are other names
    if found_on in tuple(TASKS) and found_on != target.task.name:
        raise ArtefactError(f"{path} is of task {found_on!r}, not {target.task.name!r}; give --task {found_on}")
    columns = {name: content[name] for name in (*NEEDED, *WELCOME) if name in content}
    for name, column in columns.items():
        if not isinstance(column, list):
            raise InputError(f"{path}: {name} must be a list, not {type(column).__name__}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: its lists must be of one length; got {told}")
    for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
        yield _question(path, number, dict(zip(columns, values, strict=True)), target).to_record(target)


def _entry(record: PathRecord) -> dict[str, Any]:
    """What each list gets of a record."""
    assert record.best_path is not None
    executions = record.best_path.executions
    return {
        "questions": record.question.prompt,
        "original_correct": int(bool(record.base_correct)),
        "mcts_correct": int(is_solved(record)),
        "improved_cases": record.status == "improved",
        "path_lengths": len(executions),
        "unique_layers": len(set(executions)),
        "best_path": executions,
        "good_paths": [path.executions for path in good_paths(record)],
        "best_response": right_answer(record),
        "question_ids": record.question.id,
        "choices": record.question.choices,
        "gold": record.question.gold,
    }


def _question(path: Path, number: int, entry: dict[str, Any], target: ImportTarget) -> PeerQuestion:
    where = f"{path}: question {number} ({entry['questions']!r:.40})"
    question = parse_question(
        where,
        prompt=entry["questions"],
        answer=entry.get("best_response"),
        question_id=entry.get("question_ids"),
        choices=entry.get("choices"),
        gold=entry.get("gold"),
    )
    if entry["original_correct"] not in (0, 1):
        raise InputError(f"{where}: original_correct must be 0 or 1; got {entry['original_correct']!r:.40}")
    base_correct = bool(entry["original_correct"])
    good = parse_paths(where, "good_paths", entry["good_paths"], target.num_layers)
    best = parse_path(where, "best_path", entry["best_path"], target.num_layers)
    full = LayerPath.full(target.num_layers)
    if full in good and not base_correct:
        raise InputError(f"{where}: the full path is among good_paths, and original_correct is 0")
    if best != full and best not in good:
        raise InputError(f"{where}: best_path is not among good_paths")
    return PeerQuestion(question, base_correct, good, preferred=best)
