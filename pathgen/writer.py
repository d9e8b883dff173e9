"""One writer's way to disk: finished records gather, become a shard, and lie in a progress file until then.

`LAYERPATHS_SHARD_S` and `LAYERPATHS_PROGRESS_S` in the environment shorten the intervals, so that a test's run
of a few seconds commits as often as one of hours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from .lease import check_lease
from .records import PathRecord
from .rundir import RunDirectory
from .shards import PROGRESS_FOLDER, ShardMetadata, write_progress, write_shard
from .storage import remove_file

SHARD_RECORDS = 64
SHARD_S = float(os.environ.get("LAYERPATHS_SHARD_S", 60))
PROGRESS_S = float(os.environ.get("LAYERPATHS_PROGRESS_S", 30))
"""A shard holds so many questions, or the work of so many seconds; progress in between is flushed this often."""


class RecordWriter:
    """Commits records of one writer id, which nobody else ever uses.

    Args:
        out: the run's folder.
        writer: the id.
        metadata: origin of the records.
        token: the run's; every commit checks that it still holds the folder.
    """

    def __init__(self, out: str, writer: str, metadata: ShardMetadata, token: str):
        self.writer = writer
        self._run = RunDirectory(out)
        self._metadata = metadata
        self._guard = partial(check_lease, self._run.fs, self._run.root, token)
        self._finished: list[PathRecord] = []
        self._scanned: list[PathRecord] = []
        self._shards = 0
        self._has_progress = False
        self._shard_at = self._progress_at = time.monotonic()

    def add(self, record: PathRecord) -> None:
        """A record for the next shard; or, of status `searching` (a calibration scan), for the progress file only."""
        if record.status == "searching":
            self._scanned.append(record)
            return
        if not self._finished:
            self._shard_at = time.monotonic()
        self._finished.append(record)

    def tick(self, under_way: Callable[[], list[PathRecord]]) -> list[str]:
        """Write what is due: call it between batches.

        Args:
            under_way: makes the records of searches under way, when they are needed.

        Returns:
            Question ids that became durable.

        Raises:
            LeaseLost: another run holds the folder.
            PathgenError: disk full and the like; nothing committed is harmed.
        """
        now = time.monotonic()
        if len(self._finished) >= SHARD_RECORDS or (self._finished and now - self._shard_at >= SHARD_S):
            durable = self.commit()
            return durable + (self._flush(under_way()) if self._has_progress else [])
        if now - self._progress_at >= PROGRESS_S:
            return self._flush(under_way())
        return []

    def close(self, under_way: list[PathRecord]) -> list[str]:
        """Write everything; the ids that became durable. Errors as `tick`."""
        return self.commit() + self._flush(under_way)

    def commit(self) -> list[str]:
        """Commit the finished records as a shard; their ids. Errors as `tick`."""
        if not self._finished:
            return []
        write_shard(
            self._run.fs, self._run.paths, self.writer, self._shards, self._finished, self._metadata, self._guard
        )
        self._shards += 1
        durable = [record.question_id for record in self._finished]
        self._finished = []
        return durable

    def _flush(self, under_way: list[PathRecord]) -> list[str]:
        """Replace the progress file; the ids of scans, which are durable by that."""
        self._progress_at = time.monotonic()
        records = [*under_way, *self._finished, *self._scanned]
        if records:
            write_progress(self._run.fs, self._run.root, self.writer, records, self._metadata, self._guard)
            self._has_progress = True
        elif self._has_progress:
            self._guard()
            remove_file(self._run.fs, f"{self._run.root}/{PROGRESS_FOLDER}/{self.writer}.parquet")
            self._has_progress = False
        return [record.question_id for record in self._scanned]
