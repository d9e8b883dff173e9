"""Search actors without a model, for benchmarks of everything else: real commits of records, a latency for work."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import ray

from cluster.fleet.protocol import Item, Report
from cluster.fleet.work_thread import WorkThread
from pathgen.generate.jobs import Job, RunSettings, new_record
from pathgen.generate.question_search import fill_searched
from pathgen.paths.cost import CostModel
from pathgen.paths.records import SOLVED, Evaluation, PathRecord
from pathgen.search.path_search import PathSearch
from pathgen.search.settings import SearchSettings
from pathgen.store.writer import RecordWriter

PROTOTYPES = 64
"""Searches made when a process starts. Every record is a copy of one of them; a shard holds none twice."""
BACKLOG = 2
"""As a real actor's: questions held for each one in flight."""


class FakeSearchWorker(WorkThread):
    """Answers a fleet as `pathgen.generate.worker.SearchWorker` does, and commits through the same `RecordWriter`.

    Args:
        run: the run's settings.
        writer: the id under which it writes.
        latency_s: how long a question takes; `run.in_flight` of them run at a time.
    """

    def __init__(self, run: RunSettings, writer: str, latency_s: float):
        self._run = run
        self._latency_s = latency_s
        self._writer = RecordWriter(run.out, writer, run.metadata, run.token)
        self._prototypes = prototypes(run.options.search, run.cost)
        self._backlog: list[Job] = []
        self._due_at: dict[str, tuple[float, Job]] = {}
        self.counters: defaultdict[str, float] = defaultdict(float)
        self.moved_at: dict[str, float] = {}
        super().__init__(run.in_flight * (1 + BACKLOG), lambda error: False)

    @property
    def held(self) -> int:
        """Questions taken up and not ended."""
        return len(self._backlog) + len(self._due_at)

    def take_up(self, item: Job) -> None:
        """Put a question into the backlog."""
        self._backlog.append(item)

    def step(self) -> None:
        """Wait for the question that is due first; its record, and others due by then, go to the writer."""
        now = time.monotonic()
        while self._backlog and len(self._due_at) < self._run.in_flight:
            job = self._backlog.pop(0)
            self._due_at[job.question.id] = (now + self._latency_s, job)
            self.moved_at[job.question.id] = now
        if self._due_at:
            time.sleep(max(0.0, min(due_at for due_at, _ in self._due_at.values()) - now))
            ended = [job for due_at, job in self._due_at.values() if due_at <= time.monotonic()]
            for job in ended:
                del self._due_at[job.question.id], self.moved_at[job.question.id]
                self._end(job)
            self.publish(finished=[job.question.id for job in ended])
        self.publish(durable=self._writer.tick(list))

    def close(self) -> Iterable[str]:
        """Commit what is finished."""
        return self._writer.close([])

    def _end(self, job: Job) -> None:
        record = new_record(job.question, job.attempts, self._run, self._writer.writer)
        search = self._prototypes[int(self.counters["searched"]) % PROTOTYPES]
        fill_searched(record, search)
        record.layers_run, record.seconds = search.layer_executions // 2, self._latency_s
        self._writer.add(record)
        self._count(record)

    def _count(self, record: PathRecord) -> None:
        solved = record.status in SOLVED
        self.counters["searched"] += 1
        self.counters["solved"] += solved
        self.counters["layers_saved"] += record.num_layers - (record.best_depth or 0) if solved else 0
        self.counters["simulations"] += record.simulations or 0
        self.counters["layer_executions"] += record.layer_executions or 0
        self.counters["busy_s"] += self._latency_s / self._run.in_flight


class SeatHost:
    """Many fake actors in one process, which a fleet sees as so many actors: more than a machine has memory for.

    Args:
        run: the run's settings.
        latency_s: as `FakeSearchWorker`.
    """

    def __init__(self, run: RunSettings, latency_s: float):
        self._run = run
        self._latency_s = latency_s
        self._lock = threading.Lock()
        self._workers: dict[str, FakeSearchWorker] = {}

    def _seated(self, writer: str) -> FakeSearchWorker:
        """The worker of that name, begun by the first call for it, whichever thread that comes in."""
        with self._lock:
            if writer not in self._workers:
                self._workers[writer] = FakeSearchWorker(self._run, writer, self._latency_s)
            return self._workers[writer]

    def extend(self, writer: str, items: list[Item]) -> None:
        """As the worker's."""
        self._seated(writer).extend(items)

    def poll(self, writer: str, wait_s: float) -> Report:
        """As the worker's."""
        return self._seated(writer).poll(wait_s)

    def drain(self, writer: str) -> Report:
        """As the worker's."""
        return self._seated(writer).drain()


class Seat:
    """A handle of one worker of a `SeatHost`, called as a Ray actor's handle is."""

    def __init__(self, host: Any, writer: str):
        self.extend = _Call(host.extend, writer)
        self.poll = _Call(host.poll, writer)
        self.drain = _Call(host.drain, writer)


class _Call:
    def __init__(self, method: Any, writer: str):
        self._method, self._writer = method, writer

    def remote(self, *arguments: Any) -> ray.ObjectRef:
        return self._method.remote(self._writer, *arguments)


def actor_factory(run: RunSettings, latency_s: float) -> Callable[[str], Any]:
    """In place of `Placement.actor_factory`: each actor is a process of its own."""
    actor: Any = ray.remote(FakeSearchWorker).options(num_cpus=1, max_restarts=0, max_task_retries=0, max_concurrency=2)
    return lambda writer: actor.remote(run, writer, latency_s)


def seat_factory(run: RunSettings, latency_s: float, seats: int, hosts: int) -> Callable[[str], Any]:
    """In place of `Placement.actor_factory`: `seats` actors share the processes of `hosts`."""
    host_class: Any = ray.remote(SeatHost).options(num_cpus=1, max_concurrency=2 * seats // hosts + hosts)
    turn = itertools.cycle([host_class.remote(run, latency_s) for _ in range(hosts)])

    def make(writer: str) -> Seat:
        return Seat(next(turn), writer)

    return make


@cache
def prototypes(settings: SearchSettings, cost: CostModel) -> list[PathSearch]:
    """Whole searches with made-up scores of four choices, the first being gold."""
    rng = np.random.default_rng(os.getpid())
    searches = [PathSearch(len(cost.weights), settings, cost, rng) for _ in range(PROTOTYPES)]
    for search in searches:
        while asked := search.ask():
            for path in asked:
                scores = tuple(rng.normal(-10.0, 2.0, 4).tolist())
                margin = scores[0] - max(scores[1:])
                search.tell(path, Evaluation(path, margin > 0, margin, scores))
    return searches
