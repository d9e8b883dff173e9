"""Dr.LLM's file of search results: one JSON object of parallel lists, with one entry for each question.

Their search writes and their trainer reads `model_name`, `dataset`, and the lists `questions`, `original_correct`
(0 or 1), `mcts_correct` (0 or 1), `improved_cases`, `path_lengths`, `unique_layers`, `best_path`, `good_paths` and
`best_response` (the right answer). Our export adds what an import needs and their trainer ignores: `num_layers`, and
the lists `question_ids`, `choices` and `gold`. Questions are the source's texts, not prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..errors import ArtefactError, InputError
from ..paths.layer_path import LayerPath
from ..paths.records import SOLVED, PathRecord
from ..questions.parsing import read_json
from ..questions.tasks import TASKS
from ..store.run_json import RunInfo
from .peers import ImportTarget, PeerFields, parse_path

FIELDS = PeerFields(
    question_id="question_ids",
    prompt="questions",
    answer="best_response",
    base_correct="original_correct",
    good="good_paths",
)
NEEDED = ("questions", "best_path", "good_paths", "original_correct")
OPTIONAL = ("question_ids", "best_response", "choices", "gold")
"""An import ignores other lists."""


def write_drllm(records: Iterable[PathRecord], info: RunInfo, num_layers: int, file: TextIO) -> None:
    """Write the object; the format needs all rows in memory."""
    rows = [_row(record) for record in records]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    json.dump({"model_name": info.model_id, "dataset": info.task, "num_layers": num_layers} | columns, file)
    file.write("\n")


def _row(record: PathRecord) -> dict[str, Any]:
    assert record.best_path is not None
    executions = record.best_path.executions
    return FIELDS.write(record) | {
        "mcts_correct": int(record.status in SOLVED),
        "improved_cases": record.status == "improved",
        "path_lengths": len(executions),
        "unique_layers": len(set(executions)),
        "best_path": executions,
    }


def read_drllm(path: Path, target: ImportTarget) -> Iterator[PathRecord]:
    """The questions of a file.

    Raises:
        InputError: not JSON, a list is missing or of another length, or an entry is unusable; names the question.
        ArtefactError: the file is of a model with another number of layers, or of another of our tasks.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold one JSON object of lists, not {type(content).__name__}")
    if missing := [name for name in NEEDED if name not in content]:
        raise InputError(f"{path}: no list {', '.join(missing)}; a dr-llm file has {', '.join(NEEDED)}")
    target.check_layers(str(path), content.get("num_layers", target.num_layers))
    task = content.get("dataset")  # their own names are not tasks of ours
    if task in tuple(TASKS) and task != target.task.name:
        raise ArtefactError(f"{path} is of task {task!r}, not {target.task.name!r}; give --task {task}")
    columns = {name: content[name] for name in (*NEEDED, *OPTIONAL) if name in content}
    for name, column in columns.items():
        if not isinstance(column, list):
            raise InputError(f"{path}: {name} must be a list, not {type(column).__name__}")
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise InputError(f"{path}: its lists must be of one length; got {lengths}")
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    yield from FIELDS.read(path, rows, target, _judge)


def _judge(
    row: dict[str, Any], full: LayerPath, good: Sequence[LayerPath], wrong: Sequence[LayerPath]
) -> tuple[bool, LayerPath]:
    base_correct = row["original_correct"]
    if base_correct not in (0, 1):
        raise ValueError(f"original_correct must be 0 or 1; got {base_correct!r:.40}")
    best = parse_path("best_path", row["best_path"], len(full))
    if full in good and not base_correct:
        raise ValueError("the full path is among good_paths, and original_correct is 0")
    if best != full and best not in good:
        raise ValueError("best_path is not among good_paths")
    return bool(base_correct), best
