"""The committed rows of a run for readers: each question once, even if several shards contain it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from fsspec import AbstractFileSystem

from ..errors import ArtefactError
from .index import INDEX_COLUMNS, READERS, best_rows, index, read_all, read_tables, shard_files
from .schema import SCHEMA


class CommittedRows:
    """The rows of a run's shards; they can be read without the lease, while others write.

    Each method raises ArtefactError if a shard is unreadable.

    Args:
        fs: file system of the run.
        root: the run's folder there.
        out: the folder as the user named it, for errors.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, out: str) -> None:
        self._fs = fs
        self._root = root
        self._out = out

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of all questions as they are now; all columns if `columns` is None."""
        return self.placed(SCHEMA.names if columns is None else columns)[0]

    def placed(self, columns: Sequence[str]) -> tuple[pa.Table, pl.DataFrame]:
        """`table`, and the place of each of its rows: `question_id`, `file` and `row`."""
        needed = list(dict.fromkeys([*columns, *INDEX_COLUMNS]))
        tables = self.shards(needed)
        best = best_rows(index(tables).with_row_index("position")).sort("position")
        rows = pa.concat_tables([SCHEMA.empty_table().select(needed), *tables.values()])
        is_best = np.zeros(rows.num_rows, dtype=bool)
        is_best[best["position"].to_numpy()] = True
        return rows.filter(pa.array(is_best)).select(list(columns)), best.select("question_id", "file", "row")

    def batches(
        self, columns: Sequence[str] | None = None, *, places: pl.DataFrame | None = None
    ) -> Iterator[pa.Table]:
        """The rows of `table`, in the same order, shard by shard; at most READERS shards are in memory at a time.

        Each question comes once, even if a run replaces shards meanwhile.

        Args:
            columns: the columns to decode, all if None.
            places: the wanted rows, as `placed` returned them; all if None.
        """
        wanted = list(SCHEMA.names if columns is None else columns)
        needed = list({*wanted, "question_id"})
        only = None if places is None else places["question_id"].to_list()
        given: set[str] = set()
        while True:
            # A compaction may have replaced shards after they were indexed: then index again, and give nothing twice.
            with suppress(FileNotFoundError):
                left = (self._best() if places is None else places).filter(~pl.col("question_id").is_in(given))
                if only is not None:
                    left = left.filter(pl.col("question_id").is_in(only))
                shards = left.sort("file", "row").group_by("file", maintain_order=True)
                groups = [(str(file), rows["row"]) for (file,), rows in shards]
                for start in range(0, len(groups), READERS):
                    for table in self._take(groups[start : start + READERS], needed):
                        yield table.select(wanted)
                        given.update(table["question_id"].to_pylist())
                return
            places = None

    def find(self, question_id: str) -> dict[str, Any] | None:
        """The record of a question by column, None if it has none; only its own shard is decoded."""
        places = self._best().filter(pl.col("question_id") == question_id)
        return next((table.to_pylist()[0] for table in self.batches(places=places)), None)

    def shards(self, columns: Sequence[str]) -> dict[str, pa.Table]:
        """All rows of all shards, by file, superseded rows included."""
        tables, unreadable = read_all(self._fs, self._root, partial(shard_files, self._fs, self._root), columns)
        self._refuse(unreadable)
        return tables

    def _best(self) -> pl.DataFrame:
        return best_rows(index(self.shards(INDEX_COLUMNS)))

    def _take(self, rows_by_file: Sequence[tuple[str, pl.Series]], columns: Sequence[str]) -> list[pa.Table]:
        """Some rows of some shards; FileNotFoundError if one was deleted after it was indexed."""
        tables, unreadable = read_tables(self._fs, self._root, [file for file, _ in rows_by_file], columns)
        self._refuse(unreadable)
        return [tables[file].take(rows.to_arrow()).replace_schema_metadata() for file, rows in rows_by_file]

    def _refuse(self, unreadable: Mapping[str, str]) -> None:
        if unreadable:
            raise ArtefactError(
                f"{self._out}: {len(unreadable)} unreadable, first {next(iter(unreadable.values()))}; "
                "run the same `pathgen generate` again to search those questions again"
            )
