"""A run's searches on a fleet of actors: what dead actors leave is picked up, failures become records."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cluster.fleet.fleet import Fleet
from cluster.fleet.protocol import Recovered

from ..actors.fleet_run import FleetRun
from ..errors import PathgenError
from ..questions.question import Question
from ..questions.tasks import find_task
from ..search.prior import Prior, measure_moves
from ..store.folder_lock import check_lease
from ..store.index import Budgets
from ..store.run_folder import Plan, RunDirectory
from ..store.writer import RecordWriter
from .jobs import Job, RunSettings, new_record
from .stopping import Stopping
from .worker import SearchWorker

logger = logging.getLogger(__name__)


class SearchFleet:
    """Runs jobs of one `pathgen generate` on actors.

    Args:
        actors: connected and placed.
        directory: the run's folder, whose lease is held.
        run: what actors are told.
        budgets: when a question is done.
        stopping: says when to wind up, and how fast.
    """

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
        self._stopping = stopping
        self._driver = RecordWriter(run.out, f"d-{run.token[:8]}", run.metadata, run.token)
        self._guard = partial(check_lease, directory.fs, directory.root, run.token)
        self._searchers: Fleet | None = None
        self._counters: Counter[str] = Counter()
        self._seconds = 0.0

    def calibrate(self, questions: list[Question]) -> Prior | None:
        """Scan all single moves on these questions; what is measured, or None if stopped meanwhile."""
        run = self._run
        jobs = self.with_stored([Job(question, kind="scan") for question in questions])
        self._go("calibrating", self._make_fleet(run), jobs, 0)
        if self._stopping.event.is_set():
            return None
        found = [self._directory.load_record(job.resume, job.key) for job in self.with_stored(jobs) if job.resume]
        scans = [{evaluation.path: evaluation for evaluation in record.evaluations} for record in found if record]
        if not scans:
            raise PathgenError(f"none of the {len(jobs)} questions could be scanned; do without --calibrate")
        task = find_task(run.options.task)
        statistics = measure_moves(scans, run.num_layers, run.options.search, run.cost, task.generates)
        return Prior(run.model.fingerprint, task.name, len(scans), statistics)

    def start(self, prior: Prior | None, most: int) -> None:
        """Make the actors of the search with this prior, while its jobs, so many at most, are still to be found."""
        self._searchers = self._make_fleet(replace(self._run, prior=prior))
        self._searchers.start(most)

    @property
    def started(self) -> bool:
        """Whether `start` was called, as it must be before `search`."""
        return self._searchers is not None

    def search(self, jobs: list[Job], done_before: int) -> None:
        """Search the jobs' questions and commit their records."""
        assert self._searchers is not None
        self._go("searching", self._searchers, jobs, done_before)

    def totals(self) -> dict[str, float]:
        """`Searcher.counters` over all actors so far; `search_seconds` that there was an actor ready; `actors`."""
        return {**self._counters, "search_seconds": self._seconds, "actors": self._actors.placement.num_actors}

    def with_stored(self, jobs: list[Job]) -> list[Job]:
        """The same jobs, each naming the files that hold evaluations of its question."""
        found = self._scan(jobs).resume
        return [replace(job, resume=tuple(found.get(job.key, ()))) for job in jobs]

    def _make_fleet(self, run: RunSettings) -> Fleet:
        return self._actors.fleet(
            SearchWorker,
            run,
            item_timeout_s=self._run.options.question_timeout_s,
            recover=self._recover,
            on_failed=self._give_up,
            stop=self._stopping.event,
            stop_by=lambda: self._stopping.stop_by,
        )

    def _go(self, what: str, fleet: Fleet, jobs: list[Job], done_before: int) -> None:
        progress = self._actors.run(fleet, jobs, what, self._run.out, done_before, quiet=self._run.options.quiet)
        self._seconds += progress.seconds
        self._counters.update(progress.counters)

    def _scan(self, jobs: Sequence[Job], writer: str | None = None) -> Plan:
        shas = {job.key: job.question.sha for job in jobs}
        return self._directory.scan(shas, self._budgets, writer, guard=self._guard)

    def _recover(self, writer: str, jobs: list[Job]) -> Recovered:
        """What a dead actor committed is done; what it left under way is where its questions go on."""
        found = self._scan(jobs, writer)
        for line in found.quarantined:
            logger.warning("%s", line)
        further = {
            job.key: replace(job, resume=(*found.resume[job.key], *job.resume))
            for job in jobs
            if job.key in found.resume
        }
        return Recovered(found.done | frozenset(found.failed), further)

    def _give_up(self, job: Job, error: str) -> None:
        self._driver.add(new_record(job.question, job.attempts, self._run, self._driver.writer, error))
        self._driver.commit()
