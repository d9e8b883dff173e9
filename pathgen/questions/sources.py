"""Reads the rows of a local JSON, JSONL or Parquet file, or of a hub dataset, without a schema."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InputError, one_line
from .parsing import parse_json, read_json
from .remote import copied, is_remote

SUFFIXES = (".jsonl", ".json", ".parquet")
HUB_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<config>[^:]*))?(:(?P<split>[^:]+))?")
SPLITS = ("train", "validation", "test")
MEDIA = ("Image", "Audio", "Video", "Pdf", "Nifti")
"""Feature types of the hub that need extra libraries to decode. Questions do not use them, so they are not read."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row: its place for messages (from `line 1` in JSONL, `row 1` elsewhere), its values by column, or a fault."""

    where: str
    values: dict[str, Any]
    fault: str = ""


def read_rows(source: str) -> Iterator[SourceRow]:
    """Read a local file or a hub dataset row by row, in order.

    Args:
        source: a path or URL that ends in one of `SUFFIXES`, or `owner/name[:config][:split]`. The split is `train`
            unless given; a single part that is one of `SPLITS` is the split, any other is the config.

    Raises:
        InputError: no such source, an unknown format, a broken file, or the hub cannot be reached.
    """
    path = Path(source)
    if is_remote(source) and path.suffix in SUFFIXES:
        return _read_remote(source)
    # For a name that is too long for any file, os.path returns False where Path raises.
    if path.suffix in SUFFIXES and (os.path.isfile(path) or not HUB_NAME.fullmatch(source)):
        return _read_file(path)
    if os.path.exists(path):
        raise InputError(f"{source}: questions are read from a file that ends in {', '.join(SUFFIXES)}")
    if match := HUB_NAME.fullmatch(source):
        return _read_hub(source, match["name"], match["config"] or "", match["split"] or "")
    known = f"builtin, a file ({', '.join(SUFFIXES)}) or owner/name[:config][:split]"
    raise InputError(f"{one_line(source)}: no such questions; give {known}")


def _read_remote(url: str) -> Iterator[SourceRow]:
    with copied(url) as copy:
        yield from _read_file(copy)


def _read_file(path: Path) -> Iterator[SourceRow]:
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    try:
        yield from readers[path.suffix](path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot be read: {error.strerror or error}") from error


def _read_jsonl(path: Path) -> Iterator[SourceRow]:
    """A broken line becomes a SourceRow with a fault, so that it is reported together with other problems."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    row = _object_row(f"line {number}", parse_json(line))
                except ValueError as error:
                    row = SourceRow(f"line {number}", {}, str(error))
                yield row


def _object_row(where: str, values: Any) -> SourceRow:
    fault = "" if isinstance(values, dict) else f"not a JSON object but {type(values).__name__}"
    return SourceRow(where, {} if fault else values, fault)


def _numbered(rows: Iterable[Any]) -> Iterator[SourceRow]:
    for number, values in enumerate(rows, start=1):
        yield _object_row(f"row {number}", values)


def _read_json(path: Path) -> Iterator[SourceRow]:
    try:
        rows = read_json(path)
    except InputError as error:
        # JSON lines under the name of JSON: each of the first two lines is an object of its own.
        if (lines := list(islice(_read_jsonl(path), 2))) and len(lines) == 2 and not any(row.fault for row in lines):
            return _read_jsonl(path)
        raise error
    if not isinstance(rows, list):
        raise InputError(f"{path}: must hold a list of objects, not {type(rows).__name__}")
    return _numbered(rows)


def _read_parquet(path: Path) -> Iterator[SourceRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _numbered(values for batch in file.iter_batches() for values in batch.to_pylist())
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as Parquet: {one_line(error)}") from error


def _read_hub(source: str, name: str, config: str, split: str) -> Iterator[SourceRow]:
    import datasets

    if config in SPLITS and not split:
        config, split = "", config
    try:
        dataset = datasets.load_dataset(name, config or None, split=split or "train")
        textual = [column for column, feature in dataset.features.items() if type(feature).__name__ not in MEDIA]
        yield from _numbered(dataset.select_columns(textual))
    except ConnectionError as error:
        raise InputError(
            f"{one_line(source)}: the hub cannot be reached and the dataset is not in its cache; "
            f"go online, or give builtin or a local file"
        ) from error
    except Exception as error:  # the library raises many kinds, also while it reads
        raise InputError(f"{one_line(source)}: {one_line(error)}") from error
