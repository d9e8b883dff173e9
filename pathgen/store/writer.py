"""One writer's way to disk: finished records gather, become a shard, and lie in a progress file until then.

`LAYERPATHS_SHARD_S` and `LAYERPATHS_PROGRESS_S` in the environment shorten the intervals, so that a test's run
of a few seconds commits as often as one of hours.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from ..errors import StoreOutage
from ..paths.records import PathRecord
from .files import remove_file
from .folder_lock import check_lease
from .run_folder import RunDirectory
from .shards import PROGRESS_FOLDER, ShardMetadata, write_progress, write_shard

logger = logging.getLogger(__name__)

SHARD_RECORDS = 64
SHARD_S = float(os.environ.get("LAYERPATHS_SHARD_S", 60))
PROGRESS_S = float(os.environ.get("LAYERPATHS_PROGRESS_S", 30))
"""A shard holds so many questions, or the work of so many seconds; progress in between is flushed this often."""
OUTAGE_S = 300.0
"""A store may be busy or out of reach for so long: the records wait in memory meanwhile."""
OUTAGE_RETRY_S = 5.0


class RecordWriter:
    """Commits records of one writer id, which nobody else ever uses. Its calls may come from several threads.

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
        self._shard: list[PathRecord] = []  # being committed: the same again until it is there
        self._scanned: list[PathRecord] = []
        self._durable: list[str] = []  # and not told yet
        self._shards = self._scans_kept = 0
        self._has_progress = False
        self._shard_at = self._progress_at = time.monotonic()
        self._outage_at: float | None = None
        self._retry_at = 0.0
        self._lock = threading.RLock()

    def add(self, record: PathRecord) -> None:
        """A record for the next shard; or, of status `searching` (a calibration scan), for the progress file only."""
        with self._lock:
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
            StoreOutage: the store has been out of reach for `OUTAGE_S`.
            PathgenError: disk full and the like; nothing committed is harmed.
        """
        now = time.monotonic()
        if now < self._retry_at:
            return []
        with self._lock:
            try:
                self._write_due(now, under_way)
                self._outage_at = None
            except StoreOutage as error:
                self._outage_at = self._outage_at or now
                if now - self._outage_at >= OUTAGE_S:
                    raise
                self._retry_at = time.monotonic() + OUTAGE_RETRY_S
                logger.warning("%s; trying again in %g s", error, OUTAGE_RETRY_S)
            return self._take_durable()

    def commit(self) -> list[str]:
        """Commit the finished records; the ids that became durable. Errors as `tick`, an outage at once."""
        with self._lock:
            while self._shard or self._finished:
                self._commit()
            return self._take_durable()

    def close(self, under_way: list[PathRecord]) -> list[str]:
        """Write everything; the ids that became durable. Errors as `commit`."""
        with self._lock:
            durable = self.commit()
            self._flush(under_way)
            return durable + self._take_durable()

    def _write_due(self, now: float, under_way: Callable[[], list[PathRecord]]) -> None:
        overdue = self._finished and now - self._shard_at >= SHARD_S
        if self._shard or overdue or len(self._finished) >= SHARD_RECORDS:
            self._commit()
            if self._has_progress:
                self._flush(under_way())
        elif now - self._progress_at >= PROGRESS_S:
            self._flush(under_way())

    def _commit(self) -> None:
        """One shard: what was given up as it was tried, else all that is finished.

        A put may have succeeded though its reply was lost, so what is tried again has the same bytes and name.
        """
        if not self._shard:
            self._shard, self._finished = self._finished, []
        write_shard(self._run.fs, self._run.paths, self.writer, self._shards, self._shard, self._metadata, self._guard)
        self._durable += [record.question.id for record in self._shard]
        self._shards += 1
        self._shard = []

    def _flush(self, under_way: list[PathRecord]) -> None:
        """Replace the progress file; scans are durable by that."""
        self._progress_at = time.monotonic()
        records = [*under_way, *self._shard, *self._finished, *self._scanned]
        if records:
            write_progress(self._run.fs, self._run.root, self.writer, records, self._metadata, self._guard)
            self._has_progress = True
        elif self._has_progress:
            self._guard()
            remove_file(self._run.fs, f"{self._run.root}/{PROGRESS_FOLDER}/{self.writer}.parquet")
            self._has_progress = False
        self._durable += [record.question.id for record in self._scanned[self._scans_kept :]]
        self._scans_kept = len(self._scanned)

    def _take_durable(self) -> list[str]:
        durable, self._durable = self._durable, []
        return durable
