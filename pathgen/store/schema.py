"""The columns of a shard; records as Arrow tables and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, PathRecord
from ..questions.question import Question


class UnreadableShard(Exception):
    """A damaged file of records; the text says which and why. Callers quarantine it."""


def _must(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_must("element", kind))


_PATH = _list(pa.uint8())
_EVALUATION = pa.struct(
    [
        _must("path", _PATH),
        _must("correct", pa.bool_()),
        pa.field("margin", pa.float32()),
        pa.field("choice_scores", _list(pa.float32())),
        pa.field("answer", pa.string()),
        _must("simulation", pa.int32()),
    ]
)

SCHEMA = pa.schema(
    [
        _must("question_id", pa.string()),
        _must("question_sha", pa.string()),
        _must("task", pa.string()),
        _must("prompt", pa.string()),
        pa.field("choices", _list(pa.string())),
        pa.field("gold", pa.int32()),
        pa.field("reference", pa.string()),
        _must("status", pa.string()),
        pa.field("stop_reason", pa.string()),
        _must("num_layers", pa.int16()),
        pa.field("base_correct", pa.bool_()),
        pa.field("base_margin", pa.float32()),
        pa.field("best_path", _PATH),
        pa.field("best_depth", pa.int16()),
        pa.field("best_margin", pa.float32()),
        _must("evaluations", _list(_EVALUATION)),
        pa.field("simulations", pa.int32()),
        pa.field("layer_executions", pa.int64()),
        pa.field("layers_run", pa.int64()),
        pa.field("seconds", pa.float32()),
        _must("seed", pa.int64()),
        _must("writer", pa.string()),
        _must("attempts", pa.int8()),
        _must("created_ms", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("influence", _list(pa.float32())),
        pa.field("cut", _list(pa.int32())),
    ]
)
"""Columns of a shard; margins and scores in nats; `cut` has the places of the evaluations whose answer was cut. A value
is null if a failed row lacks it or it does not apply."""
ADDED = {2: ("influence",), 3: ("cut",)}
"""Columns that older versions of the schema do not have, by the version that added them; null there."""
QUESTION_COLUMNS = {"question_id": "id"} | {name: name for name in ("prompt", "choices", "gold", "reference")}
"""The columns of the question itself, and their fields of `Question`."""


def to_table(records: Sequence[PathRecord]) -> pa.Table:
    """Records as rows of `SCHEMA`, in their order. Floats become float32."""
    columns = []
    for field in SCHEMA:
        if field.name == "evaluations":
            columns.append(_evaluations_to_arrow([record.evaluations for record in records]))
        elif field.name == "cut":
            columns.append(pa.array([_cut(record.evaluations) for record in records], type=field.type))
        elif name := QUESTION_COLUMNS.get(field.name):
            columns.append(pa.array([getattr(record.question, name) for record in records], type=field.type))
        else:
            columns.append(pa.array([getattr(record, field.name) for record in records], type=field.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def from_table(table: pa.Table) -> list[PathRecord]:
    """Rows of `SCHEMA` as records: the inverse of `to_table`.

    Raises:
        UnreadableShard: a path is empty or holds an action that does not exist.
    """
    columns: dict[str, list[Any]] = {"question": questions_of(table)}
    for name in SCHEMA.names:
        if name in QUESTION_COLUMNS or name == "cut":
            continue
        column = table[name].combine_chunks()
        if name == "evaluations":
            columns[name] = _evaluations_from_arrow(column)
        elif name == "best_path":
            columns[name] = _paths_from_arrow(column)
        elif name == "influence":
            columns[name] = _tuples(column.to_pylist())
        else:
            columns[name] = column.to_pylist()
    for evaluations, places in zip(columns["evaluations"], table["cut"].to_pylist(), strict=True):
        for place in places or ():
            if not 0 <= place < len(evaluations):
                raise UnreadableShard(f"evaluation {place} is cut, there are {len(evaluations)}")
            evaluations[place] = replace(evaluations[place], cut=True)
    return [PathRecord(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def questions_of(table: pa.Table) -> list[Question]:
    """The question of each row of a table that has the QUESTION_COLUMNS."""
    ids, prompts, choices, golds, references = (table[name].to_pylist() for name in QUESTION_COLUMNS)
    return [Question(*row) for row in zip(ids, prompts, _tuples(choices), golds, references, strict=True)]


def _cut(evaluations: Sequence[Evaluation]) -> list[int] | None:
    """Places of the evaluations whose answer was cut; None if none generated an answer."""
    if all(evaluation.answer is None and not evaluation.cut for evaluation in evaluations):
        return None
    return [place for place, evaluation in enumerate(evaluations) if evaluation.cut]


def _evaluations_to_arrow(lists: Sequence[Sequence[Evaluation]]) -> pa.ListArray:
    flat = [evaluation for evaluations in lists for evaluation in evaluations]
    paths = b"".join(bytes(evaluation.path) for evaluation in flat)
    arrays = [
        pa.ListArray.from_arrays(
            _offsets(len(evaluation.path) for evaluation in flat), np.frombuffer(paths, np.uint8), type=_PATH
        )
    ]
    arrays += [
        pa.array([getattr(evaluation, field.name) for evaluation in flat], type=field.type)
        for field in list(_EVALUATION)[1:]
    ]
    return pa.ListArray.from_arrays(
        _offsets(len(evaluations) for evaluations in lists),
        pa.StructArray.from_arrays(arrays, fields=list(_EVALUATION)),
        type=SCHEMA.field("evaluations").type,
    )


def _evaluations_from_arrow(column: pa.ListArray) -> list[list[Evaluation]]:
    offsets = column.offsets.to_pylist()
    structs = column.values[offsets[0] : offsets[-1]] if offsets else column.values
    paths = _paths_from_arrow(structs.field("path"))
    correct, margins, scores, answers, simulations = (
        structs.field(name).to_pylist() for name in ("correct", "margin", "choice_scores", "answer", "simulation")
    )
    columns = (paths, correct, margins, _tuples(scores), answers, simulations)
    flat = [Evaluation(*row) for row in zip(*columns, strict=True)]
    return [flat[start - offsets[0] : end - offsets[0]] for start, end in pairwise(offsets)]


def _paths_from_arrow(column: pa.ListArray) -> list[Any]:
    """A LayerPath or None per row. Actions are checked once for the whole column, as a check per path is slow."""
    actions = column.values.to_numpy()
    if actions.size and actions.max() > 2:
        raise UnreadableShard(f"a path holds action {actions.max()}; 0, 1 and 2 exist")
    data = actions.tobytes()
    paths = []
    for is_valid, (start, end) in zip(column.is_valid().to_pylist(), pairwise(column.offsets.to_pylist()), strict=True):
        if is_valid and start == end:
            raise UnreadableShard("a path has no layers")
        paths.append(tuple.__new__(LayerPath, data[start:end]) if is_valid else None)
    return paths


def _tuples(column: list[list[Any] | None]) -> list[tuple[Any, ...] | None]:
    return [None if values is None else tuple(values) for values in column]


def _offsets(lengths: Iterable[int]) -> pa.Array:
    return pa.array(accumulate(lengths, initial=0), type=pa.int32())
