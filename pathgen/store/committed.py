"""What a run has committed, for readers: each question once, however many shards hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from fsspec import AbstractFileSystem

from .index import INDEX_COLUMNS, READERS, best_rows, index, read_all, read_tables, refuse_unreadable, shard_files
from .shards import SCHEMA


class CommittedRows:
    """The rows of a run's shards, read without its lease, while others may write.

    Args:
        fs: file system of the run.
        root: the run's folder in there.
        out: as the user named it, for errors.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, out: str) -> None:
        self._fs = fs
        self._root = root
        self._out = out

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The committed rows, each question once, as they are now.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        return self.placed(SCHEMA.names if columns is None else columns)[0]

    def placed(self, columns: Sequence[str]) -> tuple[pa.Table, pl.DataFrame]:
        """`table`, and where each of its rows lies: its `question_id`, `file` and `row`. Errors as `table`."""
        needed = list(dict.fromkeys([*columns, *INDEX_COLUMNS]))
        tables = self._all(needed)
        best = best_rows(index(tables).with_row_index("position")).sort("position")
        rows = pa.concat_tables([SCHEMA.empty_table().select(needed), *tables.values()])
        is_best = np.zeros(rows.num_rows, dtype=bool)
        is_best[best["position"].to_numpy()] = True
        return rows.filter(pa.array(is_best)).select(list(columns)), best.select("question_id", "file", "row")

    def batches(
        self, columns: Sequence[str] | None = None, *, places: pl.DataFrame | None = None
    ) -> Iterator[pa.Table]:
        """The rows of `table`, in the same order, shard by shard; no more than READERS shards are in memory at a time.

        Each question comes once, even if a run replaces shards meanwhile.

        Args:
            columns: the columns to decode, all if None.
            places: the rows wanted, as `placed` found them; None looks for all there are.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        wanted = list(SCHEMA.names if columns is None else columns)
        needed = list({*wanted, "question_id"})
        asked = None if places is None else set(places["question_id"])
        given: set[str] = set()
        while True:
            # A run that tidies up may replace shards since they were indexed: look again then, and give nothing twice.
            with suppress(FileNotFoundError):
                left = (self._best() if places is None else places).filter(~pl.col("question_id").is_in(given))
                if asked is not None:
                    left = left.filter(pl.col("question_id").is_in(asked))
                shards = left.sort("file", "row").group_by("file", maintain_order=True)
                groups = [(str(file), rows["row"]) for (file,), rows in shards]
                for start in range(0, len(groups), READERS):
                    for table in self._take(groups[start : start + READERS], needed):
                        yield table.select(wanted)
                        given.update(table["question_id"].to_pylist())
                return
            places = None

    def find(self, question_id: str) -> dict[str, Any] | None:
        """The committed record of a question by column, None if there is none; only its own shard is decoded.

        Raises:
            ArtefactError: a shard is unreadable.
        """
        while True:
            with suppress(FileNotFoundError):  # as in `batches`
                found = self._best().filter(pl.col("question_id") == question_id)
                if found.is_empty():
                    return None
                [table] = self._take([(found["file"][0], found["row"])], SCHEMA.names)
                return table.to_pylist()[0]

    def _all(self, columns: Sequence[str]) -> dict[str, pa.Table]:
        """All shards by name."""
        listing = partial(shard_files, self._fs, self._root)
        tables, unreadable = read_all(self._fs, self._root, listing, columns)
        refuse_unreadable(self._out, unreadable)
        return tables

    def _best(self) -> pl.DataFrame:
        """The index of the committed rows that count, one a question."""
        return best_rows(index(self._all(INDEX_COLUMNS)))

    def _take(self, rows_by_file: Sequence[tuple[str, pl.Series]], columns: Sequence[str]) -> list[pa.Table]:
        """Some rows of each of some shards; FileNotFoundError if one has gone since it was indexed."""
        tables, unreadable = read_tables(self._fs, self._root, [file for file, _ in rows_by_file], columns)
        refuse_unreadable(self._out, unreadable)
        return [tables[file].take(rows.to_arrow()).replace_schema_metadata() for file, rows in rows_by_file]
