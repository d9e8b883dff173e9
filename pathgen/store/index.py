"""What stored files hold of each question, without its evaluations: fast enough to scan 100,000 of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from fsspec import AbstractFileSystem

from ..errors import ArtefactError
from .files import is_local
from .shards import PATHS_FOLDER, PROGRESS_FOLDER, SCHEMA, ShardName, UnreadableShard, list_shards, read_shard

READERS = 8
"""Files read at a time: hides the latency of an object store. Off a disk no more than half the cores, which leaves
the others to the models that load meanwhile."""

INDEX_COLUMNS = [
    "question_id",
    "question_sha",
    "status",
    "stop_reason",
    "simulations",
    "layer_executions",
    "seconds",
    "attempts",
    "writer",
]


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a search may spend on one question; None is without limit.

    Attributes:
        simulations: walks, the full path not counted.
        layer_executions: sum of the depths of the paths that were run.
        seconds: of search.
        max_depth: layer executions of the deepest path that may be asked for. A search ends when its next path
            no longer fits the budget of layer executions, so that it is spent to within one such path.
    """

    simulations: int
    layer_executions: int | None
    seconds: float | None
    max_depth: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], num_layers: int) -> Budgets:
        """The budgets among a run's settings, on a model of `num_layers`."""
        by_layers = settings["cost"] == "layers"
        return cls(
            settings["simulations"],
            settings["layer_budget"],
            settings["seconds_budget"],
            # Where another cost caps a path, only its edits bound its layer executions: each may be a repeat.
            settings["max_depth"] if by_layers else num_layers + settings["max_edits"],
        )

    def reached(self) -> pl.Expr:
        """Whether a row has spent one of these budgets, or ended for good before."""
        reached = (pl.col("simulations") >= self.simulations) | pl.col("stop_reason").is_in(["early", "exhausted"])
        if self.layer_executions is not None:
            reached |= pl.col("layer_executions") + self.max_depth > self.layer_executions
        if self.seconds is not None:
            # Seconds are stored as float32, so the bound is rounded the same way.
            reached |= pl.col("seconds") >= pl.lit(self.seconds, pl.Float32)
        return ~pl.col("status").is_in(["failed", "searching"]) & reached.fill_null(False)


def shard_files(fs: AbstractFileSystem, out: str, writer: str | None = None) -> list[str]:
    """The committed shards of a run, or of one writer, relative to `out`."""
    return [f"{PATHS_FOLDER}/{name}" for name in list_shards(fs, f"{out}/{PATHS_FOLDER}", writer)]


def progress_files(fs: AbstractFileSystem, out: str, writer: str | None = None) -> list[str]:
    """The progress files of a run, or of one writer, relative to `out`."""
    return [f"{PROGRESS_FOLDER}/{name}" for name in list_shards(fs, f"{out}/{PROGRESS_FOLDER}", writer)]


def read_tables(
    fs: AbstractFileSystem, out: str, files: Sequence[str], columns: Sequence[str]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Read some columns of shards or progress files, all bytes verified.

    Args:
        fs: file system of the run.
        out: the run's folder.
        files: names relative to `out`.
        columns: the columns to decode.

    Returns:
        The readable files' tables by name, and the reasons by name of the unreadable ones.

    Raises:
        ArtefactError: a newer layerpaths wrote one of them.
        FileNotFoundError: one of them has gone since it was listed.
    """

    def read(file: str) -> pa.Table | str:
        try:
            return read_shard(fs, f"{out}/{file}", columns)
        except UnreadableShard as error:
            return str(error)

    readers = min(READERS, max(1, (os.cpu_count() or 1) // 2)) if is_local(fs) else READERS
    with ThreadPoolExecutor(readers) as pool:
        answers = list(zip(files, pool.map(read, files), strict=True))
    tables = {file: answer for file, answer in answers if isinstance(answer, pa.Table)}
    unreadable = {file: answer for file, answer in answers if isinstance(answer, str)}
    return tables, unreadable


def read_all(
    fs: AbstractFileSystem, out: str, listing: Callable[[], list[str]], columns: Sequence[str]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """`read_tables` of all files that a listing names; listed anew when one of them has gone meanwhile.

    That is when a run tidies up, or an actor that was given up for dead does.

    Raises:
        ArtefactError: as `read_tables`; or a file is listed again and again, and cannot be opened.
    """
    files = listing()
    while True:
        try:
            return read_tables(fs, out, files, columns)
        except FileNotFoundError as error:
            before, files = files, listing()
            if files == before:
                missing = error.filename or error
                raise ArtefactError(f"{out}: {missing} is listed and cannot be opened; remove it") from error


def index(tables: Mapping[str, pa.Table]) -> pl.DataFrame:
    """One row a stored record: the light columns, its `file`, its `row` there, the shard's `seq` if it is one."""
    empty = pa.schema([SCHEMA.field(name) for name in INDEX_COLUMNS]).empty_table()
    light = [table.select(INDEX_COLUMNS).replace_schema_metadata() for table in tables.values()]
    rows = pl.DataFrame(pl.from_arrow(pa.concat_tables([empty, *light])))
    origin = pl.DataFrame(
        {
            "file": list(tables),
            "seq": [_seq(file) for file in tables],
            "row": [range(table.num_rows) for table in tables.values()],
        },
        schema={"file": pl.String, "seq": pl.Int64, "row": pl.List(pl.Int64)},
    )
    return rows.hstack(origin.filter(pl.col("row").list.len() > 0).explode("row"))


def in_preference(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted so that of several records of a question the one that counts comes first.

    That is one that has not failed, then the most simulations (of failed ones, attempts), then the smallest writer
    and sequence number. The file's name and the row only make the order total.
    """
    has_failed = pl.col("status") == "failed"
    return (
        frame.with_columns(has_failed=has_failed, failures=pl.when(has_failed).then("attempts").otherwise(0))
        .sort(
            ["question_id", "has_failed", "simulations", "failures", "writer", "seq", "file", "row"],
            descending=[False, False, True, True, False, False, False, False],
            nulls_last=True,
        )
        .drop("has_failed", "failures")
    )


def best_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The one row of each question that counts."""
    return in_preference(frame).unique("question_id", keep="first", maintain_order=True)


def refuse_unreadable(out: str, unreadable: Mapping[str, str]) -> None:
    """Give up over files that cannot be read, where the caller may not set them aside.

    Raises:
        ArtefactError: names the first of them.
    """
    if unreadable:
        reason = next(iter(unreadable.values()))
        raise ArtefactError(
            f"{out}: {len(unreadable)} unreadable, first {reason}; "
            "the same `pathgen generate` again searches those questions anew"
        )


def _seq(file: str) -> int | None:
    try:
        return ShardName.parse(file.rsplit("/", 1)[-1]).seq
    except UnreadableShard:
        return None
