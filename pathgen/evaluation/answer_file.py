"""Answers in a Parquet file, so that a later call does not run them again."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation
from ..store.files import put

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0

SCHEMA = pa.schema(
    [
        pa.field("question_sha", pa.string(), nullable=False),
        pa.field("path", pa.list_(pa.field("element", pa.uint8())), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("margin", pa.float32()),
        pa.field("choice_scores", pa.list_(pa.field("element", pa.float32()))),
    ]
)
"""One row per evaluation; margins and scores in nats."""


class AnswerFile:
    """Evaluations of one model in one file, as `answers`: (question sha, evaluation), the file's rows first.

    A missing file counts as empty. So does a file that cannot be read, with a warning.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, num_layers: int):
        self._fs, self._path = fs, path
        self.answers = self._read(num_layers)
        self._unsaved = False
        self._saved_at = time.monotonic()

    def add(self, sha: str, evaluation: Evaluation) -> Evaluation:
        """Add a new evaluation. Returns it with its margin in float32, as a later call reads it from the file."""
        if evaluation.margin is not None:
            evaluation = replace(evaluation, margin=float(np.float32(evaluation.margin)))
        self.answers.append((sha, evaluation))
        self._unsaved = True
        return evaluation

    def save(self, *, if_due: bool = False) -> None:
        """Write the file if it lacks an evaluation; with `if_due`, at most once per SAVE_EVERY_S.

        Raises:
            PathgenError: the file system refuses.
        """
        if if_due and time.monotonic() - self._saved_at < SAVE_EVERY_S:
            return
        self._saved_at = time.monotonic()
        if self._unsaved:
            put(self._fs, self._path, _to_parquet(self.answers))
            self._unsaved = False

    def _read(self, num_layers: int) -> list[tuple[str, Evaluation]]:
        try:
            data = self._fs.cat_file(self._path)
        except FileNotFoundError:
            return []
        try:
            return _from_parquet(data, num_layers)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            logger.warning("%s cannot be read (%s); its paths are evaluated again", self._path, reason)
            return []


def _to_parquet(rows: Sequence[tuple[str, Evaluation]]) -> bytes:
    names = SCHEMA.names[1:]
    values = [{"question_sha": sha} | {name: getattr(found, name) for name in names} for sha, found in rows]
    table, buffer = pa.Table.from_pylist(values, schema=SCHEMA), io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True, store_schema=False)
    return buffer.getvalue()


def _from_parquet(data: bytes, num_layers: int) -> list[tuple[str, Evaluation]]:
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    if not file.schema_arrow.equals(SCHEMA):
        raise ValueError("its columns differ")
    rows = []
    for row in file.read(use_threads=False).to_pylist():
        path = LayerPath(row["path"])
        if len(path) != num_layers:
            raise ValueError(f"a path has {len(path)} layers, the model {num_layers}")
        scores = None if row["choice_scores"] is None else tuple(row["choice_scores"])
        rows.append((row["question_sha"], Evaluation(path, row["correct"], row["margin"], scores)))
    return rows
