"""Records as JSON lines with every column of a shard: lossless, and streamed in both directions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, get_args

import numpy as np
import pyarrow as pa

from ..errors import ArtefactError, InputError
from ..paths.records import PathRecord, StopReason
from ..questions.parsing import parse_json
from ..store.run_json import RunInfo
from ..store.schema import ADDED, SCHEMA, UnreadableShard, from_table, to_table
from .peers import ImportTarget

FLOAT32_MAX = float(np.finfo(np.float32).max)
_RECORD = pa.field("record", pa.struct(list(SCHEMA)), nullable=False)


def write_lines(records: Iterable[PathRecord], info: RunInfo, num_layers: int, file: TextIO) -> None:
    """Write one line for each record, with the columns in the order of a shard. run.json is not exported."""
    for record in records:
        (row,) = to_table([record]).to_pylist()
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_lines(path: Path, target: ImportTarget) -> Iterator[PathRecord]:
    """The records of a file, one line at a time.

    Raises:
        InputError: a line is not JSON or not a record; names the line.
        ArtefactError: a record is of another task, or of a model with another number of layers.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _record(f"{path}: line {number}", line, target)


def _record(where: str, line: bytes, target: ImportTarget) -> PathRecord:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if isinstance(row, dict):  # a line of an earlier version lacks what came later
        row = dict.fromkeys(chain.from_iterable(ADDED.values())) | row
    if fault := _fault("the record", row, _RECORD):
        raise InputError(f"{where}: {fault}")
    if row["stop_reason"] not in (None, *get_args(StopReason)):
        reasons = ", ".join(get_args(StopReason))
        raise InputError(f"{where}: stop_reason must be null or one of {reasons}; got {row['stop_reason']!r:.40}")
    target.check_layers(where, row["num_layers"])
    if row["task"] != target.task.name:
        raise ArtefactError(f"{where} is of task {row['task']!r}, not {target.task.name!r}")
    try:
        (record,) = from_table(pa.Table.from_pylist([row], schema=SCHEMA))
    except (pa.ArrowException, UnreadableShard, OverflowError) as error:
        raise InputError(f"{where}: {' '.join(str(error).split())}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: a text has half of a surrogate pair, which is not a character") from error
    return record


def _fault(name: str, value: Any, field: pa.Field) -> str:
    """What is wrong with a value's keys, lists, nulls and floats, which Arrow does not check; empty if nothing is."""
    if value is None:
        return "" if field.nullable else f"{name} must not be null"
    if pa.types.is_floating(field.type):
        # Arrow rounds what float32 cannot hold to infinity. NaN is not in range either.
        outside = isinstance(value, (int, float)) and not abs(value) <= FLOAT32_MAX
        return f"{name} must be a number that float32 holds; got {value!r:.40}" if outside else ""
    if pa.types.is_list(field.type):
        if not isinstance(value, list):
            return f"{name} must be a list; got {value!r:.40}"
        inner = field.type.value_field
        return next(filter(None, (_fault(f"an entry of {name}", entry, inner) for entry in value)), "")
    if pa.types.is_struct(field.type):
        if not isinstance(value, dict):
            return f"{name} must be an object; got {value!r:.40}"
        known = {child.name: child for child in field.type}
        if unknown := [key for key in value if key not in known]:
            return f"{name}: unknown {', '.join(unknown)}"
        if missing := [key for key in known if key not in value]:
            return f"{name}: no {', '.join(missing)}"
        return next(filter(None, (_fault(key, value[key], child) for key, child in known.items())), "")
    return ""
