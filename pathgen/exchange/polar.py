"""PoLar's file of search results (`merged_mcts_samples.json`): a JSON list with one object a question.

Their trainer reads `question`, `gt_ans` (the right answer), `initial_score` (1 where full depth is right) and
`final_valid_transitions`, the paths that answer right; their search also keeps `final_invalid_transitions`, those
that do not. A path is the list of layer indices in the order they run. Beside these we write, per question,
`sample_id`, `num_layers`, `choices`, `gold`, and `program`: the best path as segments, as their paper describes them.
A segment is `[start, end, op]` with layers start to end - 1, at most four, and op `skip`, `keep` or `repeat`; there
are as few as do. A segment that repeats runs twice as a whole, so each repeated layer of ours is one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from ..errors import ArtefactError, InputError
from ..paths.layer_path import LayerAction, LayerPath
from ..paths.records import PathRecord
from ..store.run_json import RunInfo
from .peers import ImportTarget, PeerQuestion, parse_paths, parse_question, read_json, right_answer

VALID, INVALID = "final_valid_transitions", "final_invalid_transitions"
LONGEST_SEGMENT = 4
OPS = {LayerAction.SKIP: "skip", LayerAction.EXECUTE: "keep", LayerAction.REPEAT: "repeat"}
Segment = tuple[int, int, str]


def write_polar(records: Iterable[PathRecord], info: RunInfo, num_layers: int, file: TextIO) -> None:
    """Write the list, a question a line."""
    file.write("[")
    for number, record in enumerate(records):
        file.write((",\n" if number else "\n") + json.dumps(_entry(record)))
    file.write("\n]\n")


def read_polar(path: Path, target: ImportTarget) -> Iterator[PathRecord]:
    """The questions of a file: a list of objects, or an object whose `samples` is one, as their merger writes.

    Raises:
        InputError: no JSON, or an entry cannot be; the question is named.
        ArtefactError: a question is of a model with another number of layers.
    """
    content = read_json(path)
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list):
        raise InputError(f"{path}: must hold a JSON list of objects, or an object with such a list as `samples`")
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, dict):
            raise InputError(f"{path}: question {number}: must be an object, not {type(sample).__name__}")
        yield _question(path, number, sample, target).to_record(target)


def to_program(path: LayerPath) -> list[Segment]:
    """The path as segments, in order."""
    segments: list[Segment] = []
    for action, group in groupby(range(len(path)), key=lambda layer: path[layer]):
        layers = list(group)
        longest = 1 if action == LayerAction.REPEAT else LONGEST_SEGMENT
        for start in range(layers[0], layers[-1] + 1, longest):
            segments.append((start, min(start + longest, layers[-1] + 1), OPS[LayerAction(action)]))
    return segments


def from_program(segments: Any, num_layers: int) -> LayerPath:
    """The inverse of `to_program`, for any segmentation.

    Raises:
        ValueError: the segments do not cover the layers one after the other, an op is unknown, or a segment of
            several layers repeats.
    """
    if not isinstance(segments, list):
        raise ValueError("a program is a list of [start, end, op]")
    actions: list[LayerAction] = []
    by_op = {op: action for action, op in OPS.items()}
    for segment in segments:
        if not isinstance(segment, list) or len(segment) != 3 or type(segment[1]) is not int:
            raise ValueError(f"a segment is [start, end, op]; got {segment!r:.40}")
        start, end, op = segment
        if start != len(actions) or not start < end <= num_layers:
            raise ValueError(f"segments must cover layers 0..{num_layers - 1} in order; got {segment!r:.40}")
        if op not in by_op:
            raise ValueError(f"an op is {', '.join(by_op)}; got {op!r:.40}")
        if op == "repeat" and end - start > 1:
            raise ValueError(f"layers {start}-{end - 1} run twice as a block; only single layers may repeat")
        actions += [by_op[op]] * (end - start)
    if len(actions) != num_layers:
        raise ValueError(f"segments must cover layers 0..{num_layers - 1}; these end at {len(actions) - 1}")
    return LayerPath(actions)


def _entry(record: PathRecord) -> dict[str, Any]:
    assert record.best_path is not None
    by_verdict: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    for evaluation in record.evaluations:
        by_verdict[evaluation.correct].append(evaluation.path.executions)
    return {
        "sample_id": record.question.id,
        "question": record.question.prompt,
        "gt_ans": right_answer(record),
        "initial_score": float(bool(record.base_correct)),
        VALID: by_verdict[True],
        INVALID: by_verdict[False],
        "program": to_program(record.best_path),
        "num_layers": record.num_layers,
        "choices": record.question.choices,
        "gold": record.question.gold,
    }


def _question(path: Path, number: int, sample: dict[str, Any], target: ImportTarget) -> PeerQuestion:
    where = f"{path}: question {number} ({sample.get('question')!r:.40})"
    stated = sample.get("num_layers", target.num_layers)
    if stated != target.num_layers:
        raise ArtefactError(f"{where} is of a model with {stated} layers, {target.model_id} has {target.num_layers}")
    sample_id = sample.get("sample_id")
    question = parse_question(
        where,
        prompt=sample.get("question"),
        answer=sample.get("gt_ans"),
        question_id=str(sample_id) if type(sample_id) is int else sample_id,
        choices=sample.get("choices"),
        gold=sample.get("gold"),
    )
    good = _paths(where, sample, VALID, target)
    wrong = _paths(where, sample, INVALID, target) if INVALID in sample else []
    if both := set(good) & set(wrong):
        raise InputError(f"{where}: path {list(min(both).executions)} is both valid and invalid")
    full = LayerPath.full(target.num_layers)
    # Their trainer takes full depth as right where it is among the valid paths, so a score may be missing.
    score = sample.get("initial_score")
    base_correct = full in good if score is None else score == 1
    if score not in (None, 0, 1) or (full in good and not base_correct) or (full in wrong and base_correct):
        raise InputError(f"{where}: initial_score {score!r:.40} is not 0 or 1, or not what its full path's verdict is")
    return PeerQuestion(question, base_correct, good, wrong, _preferred(where, sample, good, target))


def _preferred(where: str, sample: dict[str, Any], good: list[LayerPath], target: ImportTarget) -> LayerPath | None:
    if "program" not in sample:
        return None
    try:
        path = from_program(sample["program"], target.num_layers)
    except ValueError as error:
        raise InputError(f"{where}: program: {error}") from error
    if path not in (LayerPath.full(target.num_layers), *good):
        raise InputError(f"{where}: its program is not among {VALID}")
    return path


def _paths(where: str, sample: dict[str, Any], name: str, target: ImportTarget) -> list[LayerPath]:
    """Paths are lists, or objects with such a list as their `path`."""
    entries = sample.get(name)
    if isinstance(entries, list):
        entries = [entry.get("path") if isinstance(entry, dict) else entry for entry in entries]
    return parse_paths(where, name, entries, target.num_layers)
