"""Searches many questions on one model, round by round: jobs in, records out. Knows no Ray and no threads."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..evaluation.evaluator import Evaluator, QuestionError
from ..paths.records import SOLVED, PathRecord, seeded_hash
from ..search.path_search import PathSearch
from ..search.prior import MoveScan
from .interleave import Interleaver, Running
from .jobs import Job, RunSettings, blank_record, failed_record, fill_searched, fill_searching


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A question taken up: its job, its search or scan, and the record of an earlier run if there is one."""

    job: Job
    running: Running
    earlier: PathRecord | None

    @property
    def tokens(self) -> int:
        return self.running.prepared.tokens

    @property
    def earlier_simulations(self) -> int:
        return (self.earlier.simulations or 0) if self.earlier else 0


class Searcher:
    """Keeps `in_flight` questions of like length in one batch, drawn from a backlog.

    Args:
        run: the run's settings.
        writer: id that its records carry.
        evaluator: the model with the task.
        load_record: finds the stored record of a question among files, as `RunDirectory.load_record`.

    Attributes:
        moved_at: when the work on each question in flight last moved, in `time.monotonic()` seconds.
        counters: totals so far, over questions that ended: `searched`, `continued` (from an earlier record), `solved`,
            `layers_saved` (by the best paths of the solved), `failed`; and of all work, also on questions under way:
            `simulations` (those replayed from an earlier record left out), `layer_executions`, `layers_run`,
            `token_layers`, `busy_s` (time in model execution).
    """

    def __init__(
        self,
        run: RunSettings,
        writer: str,
        evaluator: Evaluator,
        load_record: Callable[[tuple[str, ...], str], PathRecord | None],
    ):
        self._run = run
        self._writer = writer
        self._evaluator = evaluator
        self._load_record = load_record
        self._num_layers = evaluator.model.num_layers
        self._prior = {right: run.prior.weights(right) for right in (True, False)} if run.prior else {}
        self._interleaver = Interleaver(evaluator)
        self._backlog: list[_Entry] = []
        self._in_flight: dict[str, _Entry] = {}
        self._refused: list[PathRecord] = []
        self.moved_at: dict[str, float] = {}
        self.counters: defaultdict[str, float] = defaultdict(float)

    @property
    def held(self) -> int:
        """Questions taken up and not ended."""
        return len(self._backlog) + len(self._in_flight) + len(self._refused)

    def take_up(self, job: Job) -> None:
        """Tokenise a question and load what is stored of it; one that cannot be asked ends as failed."""
        question = job.question
        try:
            prepared = self._evaluator.prepare(question)
        except QuestionError as error:
            self._refused.append(failed_record(job, self._run, self._num_layers, self._writer, str(error)))
            return
        earlier = self._load_record(job.resume, question.id) if job.resume else None
        running = Running(
            prepared,
            self._scan() if job.kind == "scan" else self._search(job),
            {evaluation.path: evaluation for evaluation in earlier.evaluations} if earlier else {},
            seconds_budget=self._run.seconds_budget if job.kind == "search" else None,
            seconds=(earlier.seconds or 0.0) if earlier and earlier.simulations else 0.0,  # a scan's are no search's
        )
        self._backlog.append(_Entry(job, running, earlier))

    def step(self) -> list[PathRecord]:
        """One round on the model; the records of the questions that ended in it."""
        self._fill()
        work = self._evaluator.executor.work
        started, layers_run, token_layers = time.perf_counter(), work.layers_run, work.token_layers
        simulations, layer_executions = self._asked_so_far()
        ended = self._interleaver.step()
        self.counters["busy_s"] += time.perf_counter() - started
        self.counters["layers_run"] += work.layers_run - layers_run
        self.counters["token_layers"] += work.token_layers - token_layers
        simulations_now, layer_executions_now = self._asked_so_far()
        self.counters["simulations"] += simulations_now - simulations
        self.counters["layer_executions"] += layer_executions_now - layer_executions
        now = time.monotonic()
        self.moved_at = dict.fromkeys(self._in_flight, now)
        records, self._refused = self._refused, []
        self.counters["failed"] += len(records)
        return records + [self._end(running) for running in ended]

    def _asked_so_far(self) -> tuple[int, int]:
        """Simulations that no earlier run had made, and layer executions, of the questions in flight."""
        entries = self._in_flight.values()
        simulations = sum(max(0, entry.running.asker.simulations - entry.earlier_simulations) for entry in entries)
        return simulations, sum(entry.running.layer_executions for entry in entries)

    def under_way(self) -> list[PathRecord]:
        """Records of questions not ended, as far as anything of them is known: what a resume can use."""
        entries = [*self._in_flight.values(), *self._backlog]
        return [record for entry in entries if (record := self._unfinished(entry)).evaluations]

    def _search(self, job: Job) -> PathSearch:
        return PathSearch(
            self._num_layers,
            self._run.search,
            self._run.cost,
            np.random.default_rng(seeded_hash(self._run.seed, job.question.id)),
            prior=self._prior.get(True),
            prior_if_wrong=self._prior.get(False),
            relative_margin=self._evaluator.task.generates,
        )

    def _scan(self) -> MoveScan:
        return MoveScan(self._num_layers, self._run.search, self._run.cost)

    def _fill(self) -> None:
        """Keep the batch full, with questions of like length: padding is work thrown away."""
        while self._backlog and len(self._in_flight) < self._run.in_flight:
            lengths = [entry.tokens for entry in self._in_flight.values()]
            near = np.median(lengths) if lengths else 0
            chosen = min(self._backlog, key=lambda entry: abs(entry.tokens - near))
            self._backlog.remove(chosen)
            self._in_flight[chosen.job.question.id] = chosen
            self._interleaver.running.append(chosen.running)
            self.moved_at[chosen.job.question.id] = time.monotonic()

    def _end(self, running: Running) -> PathRecord:
        entry = self._in_flight.pop(running.prepared.question.id)
        self.moved_at.pop(entry.job.question.id, None)
        if running.error is not None:
            self.counters["failed"] += 1
            return failed_record(entry.job, self._run, self._num_layers, self._writer, running.error)
        if not isinstance(running.asker, PathSearch):
            return self._unfinished(entry)
        record = blank_record(entry.job, self._run, self._num_layers, self._writer)
        fill_searched(record, running.asker, layers_run=self._layers_run(entry), seconds=running.seconds)
        self._count(record, continued=entry.earlier_simulations > 0)
        return record

    def _unfinished(self, entry: _Entry) -> PathRecord:
        """What is known of a question so far: what its search was told, then what is stored and not asked yet."""
        running = entry.running
        told = {evaluation.path: evaluation for evaluation in running.asker.evaluations}
        unasked = {path: evaluation for path, evaluation in running.stored.items() if path not in told}
        record = blank_record(entry.job, self._run, self._num_layers, self._writer)
        fill_searching(
            record,
            [*told.values(), *unasked.values()],
            simulations=running.asker.simulations,
            layers_run=self._layers_run(entry),
            seconds=running.seconds,
        )
        return record

    def _layers_run(self, entry: _Entry) -> int:
        earlier = (entry.earlier.layers_run or 0) if entry.earlier else 0
        return earlier + entry.running.layers_run

    def _count(self, record: PathRecord, *, continued: bool) -> None:
        solved = record.status in SOLVED
        self.counters["searched"] += 1
        self.counters["continued"] += continued
        self.counters["solved"] += solved
        self.counters["layers_saved"] += record.num_layers - (record.best_depth or 0) if solved else 0
