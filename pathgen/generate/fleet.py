"""A run's jobs on a fleet of search actors: what dead actors leave is picked up, failures become records."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cluster.connection.session import Session
from cluster.fleet.fleet import Fleet, FleetSettings
from cluster.fleet.protocol import Item, Progress, Recovered
from cluster.fleet.status import publishing
from cluster.program.progress import ProgressView

from ..actors.placement import Placement, only_node
from ..errors import PathgenError
from ..questions.question import Question
from ..questions.tasks import find_task
from ..search.prior import Prior, measure_moves
from ..store.folder_lock import check_lease
from ..store.index import Budgets
from ..store.run_folder import RunDirectory
from ..store.writer import RecordWriter
from .jobs import Job, RunSettings, failed_record
from .options import GenerateOptions
from .stopping import Stopping
from .worker import SearchWorker

logger = logging.getLogger(__name__)


class FleetRun:
    """Runs jobs of one `pathgen generate` on actors.

    Args:
        directory: the run's folder, whose lease is held.
        run: what actors are told.
        session: the Ray they run on.
        placement: where they run.
        options: what was asked for.
        budgets: when a question is done.
        num_layers: of the model.
        stopping: says when to wind up, and how fast.
    """

    def __init__(
        self,
        directory: RunDirectory,
        run: RunSettings,
        session: Session,
        placement: Placement,
        options: GenerateOptions,
        budgets: Budgets,
        num_layers: int,
        stopping: Stopping,
    ):
        self._directory = directory
        self._run = run
        self._session = session
        self._placement = placement
        self._options = options
        self._budgets = budgets
        self._num_layers = num_layers
        self._stopping = stopping
        self._driver = RecordWriter(run.out, f"d-{run.token[:8]}", run.metadata, run.token)
        self._guard = partial(check_lease, directory.fs, directory.root, run.token)
        self._searchers: Fleet | None = None
        self._counters: Counter[str] = Counter()
        self._seconds = 0.0

    def calibrate(self, questions: list[Question]) -> Prior | None:
        """Scan all single moves on these questions; what is measured, or None if stopped meanwhile."""
        jobs = self.with_stored([Job(question, kind="scan") for question in questions])
        self._go("calibrating", self._make_fleet(self._run), jobs, 0)
        if self._stopping.event.is_set():
            return None
        found = [
            self._directory.load_record(job.resume, job.question.id) for job in self.with_stored(jobs) if job.resume
        ]
        scans = [{evaluation.path: evaluation for evaluation in record.evaluations} for record in found if record]
        if not scans:
            raise PathgenError(f"none of the {len(jobs)} questions could be scanned; do without --calibrate")
        run = self._run
        statistics = measure_moves(scans, self._num_layers, run.search, run.cost, find_task(run.task).generates)
        return Prior(run.metadata.fingerprint, run.task, len(scans), statistics)

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
        return {**self._counters, "search_seconds": self._seconds, "actors": self._placement.num_actors}

    def with_stored(self, jobs: list[Job]) -> list[Job]:
        """The same jobs, each naming the files that hold evaluations of its question."""
        shas = {job.question.id: job.question.sha for job in jobs}
        found = self._directory.scan(shas, self._budgets, guard=self._guard).resume
        return [replace(job, resume=tuple(found.get(job.question.id, ()))) for job in jobs]

    def _make_fleet(self, run: RunSettings) -> Fleet:
        node = only_node(self._directory.fs, self._session, shared_fs=self._options.shared_fs)
        return Fleet(
            self._placement.actor_factory(SearchWorker, run, node=node),
            FleetSettings(
                num_actors=self._placement.fleet_size(self._options, self._session, node),
                item_timeout_s=self._options.question_timeout_s,
                start_timeout_s=self._options.start_timeout_s,
                stop_by=lambda: self._stopping.stop_by,
                resources=self._placement.resources,
            ),
            recover=self._recover,
            on_failed=self._give_up,
            stop=self._stopping.event,
        )

    def _go(self, what: str, fleet: Fleet, jobs: list[Job], done_before: int) -> None:
        counters: Counter[str] = Counter()
        total = done_before + len(jobs)
        with (
            ProgressView(what, total, done_before, quiet=self._options.quiet) as view,
            publishing(f"{what} {self._run.out}", done_before, shared=self._options.address is not None) as publish,
        ):

            def on_progress(progress: Progress, latest: Mapping[str, float]) -> None:
                view.update(progress.done, progress.failed, progress.rate, latest)
                publish(progress)
                counters.clear()
                counters.update(latest)

            progress = fleet.run((Item(job.question.id, job) for job in jobs), len(jobs), on_progress)
        self._seconds += progress.seconds
        self._counters.update(counters)

    def _recover(self, writer: str, items: list[Item]) -> Recovered:
        """What a dead actor committed is done; what it left under way is where its questions go on."""
        jobs: list[Job] = [item.payload for item in items]
        shas = {job.question.id: job.question.sha for job in jobs}
        found = self._directory.scan(shas, self._budgets, writer=writer, guard=self._guard)
        for line in found.quarantined:
            logger.warning("%s", line)
        payloads = {
            job.question.id: replace(job, resume=(*found.resume[job.question.id], *job.resume))
            for job in jobs
            if job.question.id in found.resume
        }
        return Recovered(found.done | frozenset(found.failed), payloads)

    def _give_up(self, item: Item, error: str) -> None:
        self._driver.add(failed_record(item.payload, self._run, self._num_layers, self._driver.writer, error))
        self._driver.commit()
