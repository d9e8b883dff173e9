"""`pathgen export` and `pathgen import`: runs to and from the files of other programs."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError, PathgenError
from ..identity import used_by
from ..models.facts import fingerprint, num_layers
from ..models.resolving import resolve_model
from ..paths.records import PathRecord
from ..questions.tasks import find_task
from ..report.validate import record_faults
from ..store.dataset_card import write_card
from ..store.files import TEMPORARY_PREFIX, list_files, put
from ..store.folder_lock import LeaseLost, RunLease
from ..store.provenance import ShardMetadata
from ..store.run_folder import RUN_NAME, RunDirectory
from ..store.run_json import RunInfo
from ..store.schema import from_table
from ..store.shards import write_shard
from ..store.writer import SHARD_RECORDS
from .dr_llm import read_drllm, write_drllm
from .json_lines import read_lines, write_lines
from .peers import IMPORTER, ImportTarget
from .polar import read_polar, write_polar


@dataclass(frozen=True, slots=True)
class Format:
    """A file format; without `holds_failed` failed records are left out.

    `write` takes the records of one run, its info and number of layers, and the open file.
    """

    write: Callable[[Iterable[PathRecord], RunInfo, int, TextIO], None]
    read: Callable[[Path, ImportTarget], Iterator[PathRecord]]
    holds_failed: bool = False


FORMATS = {
    "dr-llm": Format(write_drllm, read_drllm),
    "polar": Format(write_polar, read_polar),
    "jsonl": Format(write_lines, read_lines, holds_failed=True),
}


def find_format(name: str, *others: str) -> Format:
    """The format of that name. InputError if there is none; it lists the names, with `others` of the command."""
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}: choose from {', '.join((*FORMATS, *others))}")
    return FORMATS[name]


def export_run(out: str, format_name: str, target: str) -> dict[str, Any]:
    """Write a run's committed records atomically to the new file `target`.

    Returns:
        A JSON object; `left_out` counts the failed questions, if the format cannot store them.

    Raises:
        InputError: an unknown format, no run, nothing to write, or the file exists.
        ArtefactError: a shard is unreadable.
    """
    chosen = find_format(format_name, "hub")
    file = Path(target)
    if file.exists():
        raise InputError(f"--out {target} exists already; give a new file")
    if not file.parent.is_dir():
        raise InputError(f"--out {target}: there is no folder {file.parent}")
    directory = RunDirectory(out)
    info = directory.info()
    counts = Counter(records=0, left_out=0)

    def written() -> Iterator[PathRecord]:
        for batch in directory.committed.batches():
            for record in from_table(batch):
                if record.status == "failed" and not chosen.holds_failed:
                    counts["left_out"] += 1
                else:
                    counts["records"] += 1
                    yield record

    records = written()
    first = next(records, None)
    if first is None:
        raise InputError(f"{out} holds no record that {format_name} can store")
    temporary = file.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as handle:
            chosen.write(chain([first], records), info, first.num_layers, handle)
        temporary.rename(file)
    except OSError as error:
        raise PathgenError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return {"out": out, "format": format_name, "file": target, **counts}


def import_file(source: str, format_name: str, model: str, task: str, out: str) -> dict[str, Any]:
    """Make the new run folder `out` from a file of paths for this model and task. An error removes it again.

    Returns:
        A JSON object with the number of records, also by status.

    Raises:
        InputError: an unknown format, file, model or task, a folder that is not empty, or a record with a
            contradiction.
        ArtefactError: the records are of a model with another number of layers, or of another task.
    """
    chosen = find_format(format_name)
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source}: no such file")
    found_task = find_task(task)
    folder = resolve_model(model)
    print_ = used_by(fingerprint(folder), chat=False, generates=found_task.generates)
    target = ImportTarget(model, print_, num_layers(folder), found_task)
    directory = RunDirectory(out)
    directory.check_usable()
    if list_files(directory.fs, directory.root):
        raise InputError(f"--out {out} is not empty; give a new folder")
    info = _info(target, format_name, source)
    directory.create()
    with RunLease(directory.fs, directory.root, on_wait=lambda line: None) as lease:
        try:
            counts = _commit(directory, _checked(chosen.read(path, target), info, source), info, lease.check)
        except LeaseLost:
            raise  # the folder now belongs to another process
        except BaseException:
            with suppress(OSError):
                directory.fs.rm(directory.root, recursive=True)
            raise
    return {"out": out, "format": format_name, "records": counts.total(), **counts}


def _info(target: ImportTarget, format_name: str, source: str) -> RunInfo:
    """The run.json of an import: its bounds allow every path, and its budgets count as spent."""
    settings = {
        "imported": format_name,
        "simulations": 0,
        "layer_budget": None,
        "seconds_budget": None,
        "max_depth": 2 * target.num_layers,
        "max_edits": target.num_layers,
        "cost": "layers",
        "seed": 0,
        "dtype": "float32",
        "task": target.task.describe(chat=False),
    }
    return RunInfo(settings, target.model_id, target.fingerprint, target.task.name, os.path.basename(source))


def _checked(records: Iterable[PathRecord], info: RunInfo, source: str) -> Iterator[PathRecord]:
    """The records, refused unless `pathgen validate` would pass them."""
    seen: set[str] = set()
    try:
        for number, record in enumerate(records, start=1):
            where = f"{source}: record {number} ({record.question.id!r:.60})"
            if record.question.id in seen:
                raise InputError(f"{where}: its question is a duplicate")
            seen.add(record.question.id)
            if faults := record_faults(record, info):
                raise InputError(f"{where}: {faults[0]}")
            yield record
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror})") from error
    if not seen:
        raise InputError(f"{source}: no questions in it")


def _commit(
    directory: RunDirectory, records: Iterator[PathRecord], info: RunInfo, guard: Callable[[], object]
) -> Counter[str]:
    """Write the shards, then the files that make them a run. Returns the number of records by status."""
    fs, root = directory.fs, directory.root
    metadata = ShardMetadata.here(info.model_id, info.fingerprint, info.task)
    counts = Counter(dict.fromkeys(("improved", "kept", "unsolved", "failed"), 0))
    shards = iter(lambda: list(islice(records, SHARD_RECORDS)), [])
    for seq, shard in enumerate(shards):
        write_shard(fs, directory.paths, IMPORTER, seq, shard, metadata, guard)
        counts.update(record.status for record in shard)
    write_card(fs, root, info, {"questions": counts.total(), "failed": counts["failed"]}, guard)
    put(fs, f"{root}/{RUN_NAME}", replace(info, questions=counts.total()).to_json(), guard=guard)
    return counts
