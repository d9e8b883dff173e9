"""A run's searches on a fleet of actors: work of dead actors continues, failures become records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from cluster.fleet.fleet import Fleet
from cluster.fleet.protocol import Recovered

from ..actors.fleet_run import FleetRun
from ..store.folder_lock import check_lease
from ..store.index import Budgets
from ..store.run_folder import ResumePlan, RunDirectory
from ..store.writer import RecordWriter
from .jobs import Job, RunSettings, new_record
from .stopping import Stopping
from .worker import SearchWorker

logger = logging.getLogger(__name__)


class SearchFleet:
    """Runs jobs of one `pathgen generate` on actors. The caller holds the lease of the run's folder."""

    def __init__(
        self,
        actors: FleetRun,
        directory: RunDirectory,
        run: RunSettings,
        budgets: Budgets,
        stopping: Stopping,
    ):
        self._actors = actors
        self._directory = directory
        self._run = run
        self._budgets = budgets
        self._driver = RecordWriter(run.out, f"d-{run.token[:8]}", run.metadata, run.token)
        self._guard = partial(check_lease, directory.fs, directory.root, run.token)
        self._searchers: Fleet = actors.fleet(
            SearchWorker,
            run,
            item_timeout_s=run.options.question_timeout_s,
            recover=self._recover,
            on_failed=self._give_up,
            stop=stopping.event,
            stop_by=lambda: stopping.stop_by,
        )
        self._counters: Mapping[str, float] = {}
        self._seconds = 0.0

    def start(self, most: int) -> None:
        """Make the search's actors, for at most `most` jobs, which need not be known yet."""
        self._searchers.start(most)

    def search(self, jobs: list[Job], done_before: int) -> None:
        """Search the jobs' questions and commit their records, after `start`."""
        progress = self._actors.run(self._searchers, jobs, "searching", self._run.out, done_before)
        self._seconds, self._counters = progress.seconds, progress.counters

    def totals(self) -> dict[str, float]:
        """`Searcher.counters` over all actors; `search_seconds` since an actor was ready; number of `actors`."""
        return {**self._counters, "search_seconds": self._seconds, "actors": self._actors.placement.num_actors}

    def _scan(self, jobs: Sequence[Job], writer: str | None = None) -> ResumePlan:
        shas = {job.key: job.question.sha for job in jobs}
        return self._directory.scan(shas, self._budgets, writer, guard=self._guard)

    def _recover(self, writer: str, jobs: list[Job]) -> Recovered:
        """Records that a dead actor committed are done; its other questions continue from its progress file."""
        found = self._scan(jobs, writer)
        for line in found.quarantined:
            logger.warning("%s", line)
        resumed = (replace(job, resume=(*found.resume.get(job.key, ()), *job.resume)) for job in jobs)
        return Recovered(found.done | frozenset(found.failed), {job.key: job for job in resumed})

    def _give_up(self, job: Job, error: str) -> None:
        self._driver.add(new_record(job.question, job.attempts, self._run, self._driver.writer, error))
        self._driver.commit()
