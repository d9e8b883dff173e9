"""PoLar's file of search results (`merged_mcts_samples.json`): a JSON list with one object for each question.

Their trainer reads `question`, `gt_ans` (the right answer), `initial_score` (1 if full depth is right) and
`final_valid_transitions`, the paths that answer right; their search also writes `final_invalid_transitions`, the
paths that do not. Our export adds `sample_id`, `num_layers`, `choices`, `gold`, and `program`: the best path as the
fewest segments, as in their paper. A segment is `[start, end, op]` with layers start to end - 1, at most four, and op
`skip`, `keep` or `repeat`. A repeated segment runs twice as a whole, so each of our repeated layers is one segment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError
from ..paths.layer_path import LayerAction, LayerPath
from ..paths.records import PathRecord
from ..questions.parsing import read_json
from ..store.run_json import RunInfo
from .peers import ImportTarget, PeerFields

FIELDS = PeerFields(
    question_id="sample_id",
    prompt="question",
    answer="gt_ans",
    base_correct="initial_score",
    good="final_valid_transitions",
    wrong="final_invalid_transitions",
)
LONGEST_SEGMENT = 4
OPS = ("skip", "keep", "repeat")
"""Indexed by LayerAction."""


def write_polar(records: Iterable[PathRecord], info: RunInfo, num_layers: int, file: TextIO) -> None:
    """Write the list, one line for each question."""
    file.write("[")
    for number, record in enumerate(records):
        assert record.best_path is not None
        sample = FIELDS.write(record) | {
            "initial_score": float(bool(record.base_correct)),
            "program": to_program(record.best_path),
            "num_layers": record.num_layers,
        }
        file.write((",\n" if number else "\n") + json.dumps(sample))
    file.write("\n]\n")


def read_polar(path: Path, target: ImportTarget) -> Iterator[PathRecord]:
    """The questions of a file: a list of objects, or the object of their merger, with this list as `samples`.

    Raises:
        InputError: not JSON, or an entry is unusable; names the question.
        ArtefactError: a question is of a model with another number of layers.
    """
    content = read_json(path)
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list):
        raise InputError(f"{path}: must hold a JSON list of objects, or an object with such a list as `samples`")
    yield from FIELDS.read(path, _rows(path, samples, target), target, _judge)


def _rows(path: Path, samples: list[Any], target: ImportTarget) -> Iterator[dict[str, Any]]:
    """The samples, with each path as a list of layers; a file may also hold it as the `path` of an object."""
    for number, sample in enumerate(samples, start=1):
        where = f"{path}: question {number}"
        if not isinstance(sample, dict):
            raise InputError(f"{where}: must be an object, not {type(sample).__name__}")
        target.check_layers(where, sample.get("num_layers", target.num_layers))
        yield sample | {
            name: [entry.get("path") if isinstance(entry, dict) else entry for entry in sample[name]]
            for name in (FIELDS.good, FIELDS.wrong)
            if isinstance(sample.get(name), list)
        }


def _judge(
    row: dict[str, Any], full: LayerPath, good: Sequence[LayerPath], wrong: Sequence[LayerPath]
) -> tuple[bool, LayerPath | None]:
    if both := set(good) & set(wrong):
        raise ValueError(f"path {list(min(both).executions)} is both valid and invalid")
    # Their trainer takes full depth as right if it is a valid path, so a score may be missing.
    score = row.get("initial_score")
    base_correct = full in good if score is None else score == 1
    if score not in (None, 0, 1) or (full in good and not base_correct) or (full in wrong and base_correct):
        raise ValueError(f"initial_score {score!r:.40} is not 0 or 1, or contradicts the verdict of its full path")
    if "program" not in row:
        return base_correct, None
    best = from_program(row["program"], len(full))
    if best != full and best not in good:
        raise ValueError(f"its program is not among {FIELDS.good}")
    return base_correct, best


def to_program(path: LayerPath) -> list[tuple[int, int, str]]:
    """The path as segments, in order."""
    segments: list[tuple[int, int, str]] = []
    start = 0
    for action, group in groupby(path):
        end = start + len(list(group))
        longest = 1 if action == LayerAction.REPEAT else LONGEST_SEGMENT
        segments += [(first, min(first + longest, end), OPS[action]) for first in range(start, end, longest)]
        start = end
    return segments


def from_program(segments: Any, num_layers: int) -> LayerPath:
    """The inverse of `to_program`, for any segmentation.

    Raises:
        ValueError: the segments do not cover the layers one after the other, an op is unknown, or a segment of
            several layers repeats.
    """
    if not isinstance(segments, list):
        raise ValueError("program: a program is a list of [start, end, op]")
    actions: list[int] = []
    for segment in segments:
        if not isinstance(segment, list) or len(segment) != 3 or type(segment[1]) is not int:
            raise ValueError(f"program: a segment is [start, end, op]; got {segment!r:.40}")
        start, end, op = segment
        if start != len(actions) or not start < end <= num_layers:
            raise ValueError(f"program: segments must cover layers 0..{num_layers - 1} in order; got {segment!r:.40}")
        if op not in OPS:
            raise ValueError(f"program: an op is {', '.join(OPS)}; got {op!r:.40}")
        if op == "repeat" and end - start > 1:
            raise ValueError(f"program: layers {start}-{end - 1} run twice as a block; only single layers may repeat")
        actions += [OPS.index(op)] * (end - start)
    if len(actions) != num_layers:
        raise ValueError(f"program: segments must cover layers 0..{num_layers - 1}; these end at {len(actions) - 1}")
    return LayerPath(actions)
