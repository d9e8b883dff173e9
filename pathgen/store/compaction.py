"""Tidying a finished run: each question once among the raw rows of the shards."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from fsspec import AbstractFileSystem

from ..faults import fault_point
from .files import list_files, remove_file, remove_leftovers
from .index import INDEX_COLUMNS, best_rows, index, progress_files, read_all, refuse_unreadable, shard_files
from .shards import PATHS_FOLDER, PROGRESS_FOLDER, ShardName, commit_table, read_shard


def compact(fs: AbstractFileSystem, out: str, guard: Callable[[], object]) -> None:
    """Rewrite shards without superseded rows, delete progress files that the shards have caught up with, and leftovers.

    Every new shard is committed before the first old one goes, so a kill at any moment loses nothing and the next
    call finishes the work. For the holder of the run's lease, when no actor writes any more.

    Args:
        fs: file system of the run.
        out: the run's folder.
        guard: called before anything is committed or deleted; raises when the lease is lost.

    Raises:
        ArtefactError: a shard is unreadable, or of a newer schema version.
        PathgenError: the file system refuses; nothing is lost.
    """
    tables, unreadable = read_all(fs, out, lambda: shard_files(fs, out), INDEX_COLUMNS)
    refuse_unreadable(out, unreadable)
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
            folder = f"{out}/{PATHS_FOLDER}"
            committed.add(f"{PATHS_FOLDER}/{commit_table(fs, folder, name.writer, name.seq, rows, guard)}")
    # A kill between the two steps leaves a shard beside its rewritten self; made again, the latter has that name.
    for file in superseded:
        if file not in committed:
            guard()
            fault_point("before-delete")
            remove_file(fs, f"{out}/{file}")
    for folder in (PATHS_FOLDER, PROGRESS_FOLDER):
        remove_leftovers(fs, f"{out}/{folder}")
    _remove_outlived_progress(fs, out, best, guard)


def _remove_outlived_progress(
    fs: AbstractFileSystem, out: str, best: pl.DataFrame, guard: Callable[[], object]
) -> None:
    """Delete progress files without a row that knows more of its question than the committed record."""
    tables, _ = read_all(fs, out, lambda: progress_files(fs, out), INDEX_COLUMNS)
    # A failed question knows nothing: it may be tried again, and goes on from there.
    known = pl.when(pl.col("status") == "failed").then(-1).otherwise(pl.col("simulations"))
    rows = index(tables).join(best.select("question_id", known=known), on="question_id", how="left")
    ahead = rows.filter(pl.col("known").is_null() | (pl.col("simulations") > pl.col("known")))
    for file in sorted(set(tables) - set(ahead["file"])):
        guard()
        fault_point("before-progress-delete")
        remove_file(fs, f"{out}/{file}")
    if fs.isdir(f"{out}/{PROGRESS_FOLDER}") and not list_files(fs, f"{out}/{PROGRESS_FOLDER}"):
        fs.rmdir(f"{out}/{PROGRESS_FOLDER}")
