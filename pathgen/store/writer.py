"""The writer of records: finished ones become a shard, and are kept in a progress file until then.

The environment variables `LAYERPATHS_SHARD_S` and `LAYERPATHS_PROGRESS_S` shorten the intervals for tests.
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
from .provenance import ShardMetadata
from .run_folder import RunDirectory
from .shards import PROGRESS_FOLDER, write_progress, write_shard

logger = logging.getLogger(__name__)

SHARD_RECORDS = 64
SHARD_S = float(os.environ.get("LAYERPATHS_SHARD_S", 60))
PROGRESS_S = float(os.environ.get("LAYERPATHS_PROGRESS_S", 30))
"""A shard is due after SHARD_RECORDS questions or SHARD_S seconds, a progress file every PROGRESS_S seconds."""
OUTAGE_S = 300.0
"""How long a store may be busy or out of reach; meanwhile the records wait in memory."""
OUTAGE_RETRY_S = 5.0


class RecordWriter:
    """Commits records under one writer id, which no other process ever uses. Several threads may call it.

    Args:
        out: the run's folder.
        writer: the id.
        metadata: origin of the records.
        token: of the run's lease, which every commit checks.
    """

    def __init__(self, out: str, writer: str, metadata: ShardMetadata, token: str):
        self.writer = writer
        self._run = RunDirectory(out)
        self._metadata = metadata
        self._guard = partial(check_lease, self._run.fs, self._run.root, token)
        self._finished: list[PathRecord] = []
        self._shard: list[PathRecord] = []  # being committed: the same records on each try
        self._durable: list[str] = []  # and not yet returned
        self._shards = 0
        self._has_progress = False
        self._shard_at = self._progress_at = time.monotonic()
        self._outage_at: float | None = None
        self._retry_at = 0.0
        self._lock = threading.RLock()

    def add(self, record: PathRecord) -> None:
        """Take a record for the next shard."""
        with self._lock:
            if not self._finished:
                self._shard_at = time.monotonic()
            self._finished.append(record)

    def tick(self, under_way: Callable[[], list[PathRecord]]) -> list[str]:
        """Write what is due, between batches; returns the question ids that became durable.

        Args:
            under_way: makes the records of unfinished searches, if they are needed.

        Raises:
            LeaseLost: another run holds the folder.
            StoreOutage: the store has been out of reach for `OUTAGE_S`.
            PathgenError: the write failed, for example on a full disk; committed files are unharmed.
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
        """Commit the finished records; returns and errors as in `tick`, but an outage is raised at once."""
        with self._lock:
            while self._shard or self._finished:
                self._commit()
            return self._take_durable()

    def close(self, under_way: list[PathRecord]) -> list[str]:
        """Write everything; returns and errors as in `commit`."""
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
        # A put may have succeeded though its reply was lost, so the next try has the same records, bytes and name.
        if not self._shard:
            self._shard, self._finished = self._finished, []
        write_shard(self._run.fs, self._run.paths, self.writer, self._shards, self._shard, self._metadata, self._guard)
        self._durable += [record.question.id for record in self._shard]
        self._shards += 1
        self._shard = []

    def _flush(self, under_way: list[PathRecord]) -> None:
        """Replace the progress file."""
        self._progress_at = time.monotonic()
        records = [*under_way, *self._shard, *self._finished]
        if records:
            write_progress(self._run.fs, self._run.root, self.writer, records, self._metadata, self._guard)
            self._has_progress = True
        elif self._has_progress:
            self._guard()
            remove_file(self._run.fs, f"{self._run.root}/{PROGRESS_FOLDER}/{self.writer}.parquet")
            self._has_progress = False

    def _take_durable(self) -> list[str]:
        durable, self._durable = self._durable, []
        return durable
