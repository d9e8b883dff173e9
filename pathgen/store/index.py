"""Which files a run has, and which of their rows count; without evaluations, so that 100,000 questions are fast."""

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
from .schema import SCHEMA, UnreadableShard
from .shards import PATHS_FOLDER, PROGRESS_FOLDER, ShardName, list_shards, read_shard

READERS = 8
"""Files read in parallel, to hide the latency of an object store. For a disk at most half the cores, as models may
load meanwhile."""

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
    """What a search may spend on one question; None means no limit.

    Attributes:
        simulations: walks, without the full path.
        layer_executions: sum of the depths of the paths that were run.
        max_depth: layer executions of the deepest possible path. A search ends when its next path may no longer
            fit into the budget of layer executions, so less than one such path is left over.
    """

    simulations: int
    layer_executions: int | None
    seconds: float | None
    max_depth: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], num_layers: int) -> Budgets:
        """The budgets among a run's settings, on a model of `num_layers`."""
        # With another cost only a path's edits bound its layer executions: each may be a repeat.
        max_depth = settings["max_depth"] if settings["cost"] == "layers" else num_layers + settings["max_edits"]
        return cls(settings["simulations"], settings["layer_budget"], settings["seconds_budget"], max_depth)

    def reached(self) -> pl.Expr:
        """Whether a row has spent one of these budgets, or its search ended before without failing."""
        reached = (pl.col("simulations") >= self.simulations) | pl.col("stop_reason").is_in(["early", "exhausted"])
        if self.layer_executions is not None:
            reached |= pl.col("layer_executions") + self.max_depth > self.layer_executions
        if self.seconds is not None:
            # Seconds are stored as float32, so the bound is rounded the same way.
            reached |= pl.col("seconds") >= pl.lit(self.seconds, pl.Float32)
        return ~pl.col("status").is_in(["failed", "searching"]) & reached.fill_null(False)


def shard_files(fs: AbstractFileSystem, out: str, writer: str | None = None) -> list[str]:
    """Names of a run's shards relative to `out`; of one writer if given."""
    return [f"{PATHS_FOLDER}/{name}" for name in list_shards(fs, f"{out}/{PATHS_FOLDER}", writer)]


def progress_files(fs: AbstractFileSystem, out: str, writer: str | None = None) -> list[str]:
    """Names of a run's progress files relative to `out`; of one writer if given."""
    return [f"{PROGRESS_FOLDER}/{name}" for name in list_shards(fs, f"{out}/{PROGRESS_FOLDER}", writer)]


def read_tables(
    fs: AbstractFileSystem, out: str, files: Sequence[str], columns: Sequence[str]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Read some columns of shards or progress files (names relative to `out`); all bytes are verified.

    Returns:
        Tables by name of the readable files, and reasons by name of the unreadable ones.

    Raises:
        ArtefactError: a newer layerpaths wrote one of them.
        FileNotFoundError: one of them was deleted after it was listed.
    """

    def read(file: str) -> pa.Table | str:
        try:
            return read_shard(fs, f"{out}/{file}", columns)
        except UnreadableShard as error:
            return str(error)

    readers = min(READERS, max(1, (os.cpu_count() or 1) // 2)) if is_local(fs) else READERS
    with ThreadPoolExecutor(readers) as pool:
        results = dict(zip(files, pool.map(read, files), strict=True))
    unreadable = {file: result for file, result in results.items() if isinstance(result, str)}
    return {file: table for file, table in results.items() if file not in unreadable}, unreadable


def read_all(
    fs: AbstractFileSystem, out: str, listing: Callable[[], list[str]], columns: Sequence[str]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """`read_tables` of all listed files, listed again if a compaction or an actor deleted one meanwhile.

    Raises:
        ArtefactError: as in `read_tables`, or a file remains in the listing but cannot be opened.
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
    """One row per stored record: INDEX_COLUMNS, its `file`, its `row` there, and `seq`, which only a shard has."""
    empty = pa.schema([SCHEMA.field(name) for name in INDEX_COLUMNS]).empty_table()
    light = [table.select(INDEX_COLUMNS).replace_schema_metadata() for table in tables.values()]
    rows = pl.DataFrame(pl.from_arrow(pa.concat_tables([empty, *light])))
    origin = pl.DataFrame(
        {
            "file": list(tables),
            "seq": [
                ShardName.parse(name).seq if folder == PATHS_FOLDER else None
                for folder, _, name in (file.rpartition("/") for file in tables)
            ],
            "row": [range(table.num_rows) for table in tables.values()],
        },
        schema={"file": pl.String, "seq": pl.Int64, "row": pl.List(pl.Int64)},
    )
    return rows.hstack(origin.filter(pl.col("row").list.len() > 0).explode("row"))


def in_preference(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorted so that of several records of a question the one that counts comes first.

    A record that has not failed comes first, then the most simulations (of failed records, the most attempts), then
    the smallest writer and sequence number. The file's name and the row only make the order total.
    """
    has_failed = pl.col("status") == "failed"
    failures = pl.when(has_failed).then("attempts").otherwise(0)
    return frame.sort(
        ["question_id", has_failed, "simulations", failures, "writer", "seq", "file", "row"],
        descending=[False, False, True, True, False, False, False, False],
        nulls_last=True,
    )


def best_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """For each question the one row that counts."""
    return in_preference(frame).unique("question_id", keep="first", maintain_order=True)
