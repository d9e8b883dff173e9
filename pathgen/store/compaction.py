"""Compaction of a finished run: afterwards the shards contain each question once."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from fsspec import AbstractFileSystem

from ..faults import fault_point
from .committed import CommittedRows
from .files import list_files, remove_file, remove_leftovers
from .index import INDEX_COLUMNS, best_rows, index, progress_files, read_all
from .shards import PATHS_FOLDER, PROGRESS_FOLDER, ShardName, commit_table, read_shard


def compact(fs: AbstractFileSystem, out: str, guard: Callable[[], object]) -> None:
    """Rewrite shards without superseded rows; delete outdated progress files and leftovers.

    All new shards are committed before the first old one is deleted, so a kill at any moment loses nothing and the
    next call finishes the work. Only for the holder of the run's lease, when no actor writes any more.

    Args:
        fs: file system of the run.
        out: the run's folder.
        guard: called before each commit and each deletion; raises when the lease is lost.

    Raises:
        ArtefactError: a shard is unreadable, or has a newer schema version.
        PathgenError: the file system refuses; nothing is lost.
    """
    tables = CommittedRows(fs, out, out).shards(INDEX_COLUMNS)
    best = best_rows(index(tables))
    kept = {file: rows["row"].sort() for (file,), rows in best.group_by("file")}

    superseded, committed = [], set()
    for file, table in tables.items():
        if file not in kept:
            superseded.append(file)
        elif len(kept[file]) < table.num_rows:
            superseded.append(file)
            rows = read_shard(fs, f"{out}/{file}").take(kept[file].to_arrow())
            name = ShardName.parse(file.removeprefix(f"{PATHS_FOLDER}/"))
            new = commit_table(fs, f"{out}/{PATHS_FOLDER}", name.writer, name.seq, rows, guard)
            committed.add(f"{PATHS_FOLDER}/{new}")
    # After a kill between the two steps both shards exist, and the rewritten one gets the same name again.
    for file in superseded:
        if file not in committed:
            guard()
            fault_point("before-delete")
            remove_file(fs, f"{out}/{file}")
    for folder in (PATHS_FOLDER, PROGRESS_FOLDER):
        remove_leftovers(fs, f"{out}/{folder}")
    _remove_outdated_progress(fs, out, best, guard)


def _remove_outdated_progress(
    fs: AbstractFileSystem, out: str, best: pl.DataFrame, guard: Callable[[], object]
) -> None:
    """Delete the progress files in which no row has more simulations than the committed record of its question."""
    tables, _ = read_all(fs, out, lambda: progress_files(fs, out), INDEX_COLUMNS)
    # A failed question counts as -1: if it is tried again, its search continues from the progress file.
    known = pl.when(pl.col("status") == "failed").then(-1).otherwise(pl.col("simulations"))
    rows = index(tables).join(best.select("question_id", known=known), on="question_id", how="left")
    ahead = rows.filter(pl.col("known").is_null() | (pl.col("simulations") > pl.col("known")))
    for file in sorted(set(tables) - set(ahead["file"])):
        guard()
        fault_point("before-progress-delete")
        remove_file(fs, f"{out}/{file}")
    if fs.isdir(f"{out}/{PROGRESS_FOLDER}") and not list_files(fs, f"{out}/{PROGRESS_FOLDER}"):
        fs.rmdir(f"{out}/{PROGRESS_FOLDER}")
