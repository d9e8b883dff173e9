"""Searches many questions on one model, round by round: jobs in, records out. No Ray and no threads here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..evaluation.evaluator import Evaluator, QuestionError
from ..paths.records import SOLVED, PathRecord, seeded_hash
from ..search.path_search import PathSearch
from .interleave import Interleaver
from .jobs import Job, RunSettings, new_record
from .question_search import QuestionSearch


class Searcher:
    """Keeps `in_flight` questions of like length in one batch, chosen from a backlog.

    `writer` is the id in its records; `load_record` finds a question's stored record, as `RunDirectory.load_record`.

    Attributes:
        moved_at: when the work on each question in flight last moved, in `time.monotonic()` seconds.
        counters: totals over questions that ended: `searched`, `continued` (from an earlier record), `solved`,
            `layers_saved` (by the best paths of the solved), `failed`; and over all work: `simulations` (without
            those replayed from an earlier record), `layer_executions`, `layers_run`, `token_layers`, `busy_s`
            (time in model execution).
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
        self._backlog: list[QuestionSearch] = []
        self._interleaver = Interleaver(evaluator)
        self._refused: list[PathRecord] = []
        self.moved_at: dict[str, float] = {}
        self.counters: defaultdict[str, float] = defaultdict(float)

    @property
    def held(self) -> int:
        """Questions taken and not ended."""
        return len(self._backlog) + len(self._interleaver.running) + len(self._refused)

    def take_up(self, job: Job) -> None:
        """Tokenise a question and load its stored record; a question that does not fit the model fails."""
        try:
            prepared = self._evaluator.prepare(job.question)
        except QuestionError as error:
            self._refused.append(new_record(job.question, job.attempts, self._run, self._writer, str(error)))
            return
        budget = self._run.options.seconds_budget
        search = QuestionSearch(prepared, self._path_search(job), seconds_budget=budget, attempts=job.attempts)
        if job.resume and (earlier := self._load_record(job.resume, job.question.id)):
            search.go_on_from(earlier)
        self._backlog.append(search)

    def step(self) -> list[PathRecord]:
        """Run one round on the model; return the records of the questions that ended in it."""
        self._fill()
        searches = list(self._interleaver.running)
        before = self._spent(searches)
        ended = self._interleaver.step()
        for name, spent in self._spent(searches).items():
            self.counters[name] += spent - before[name]
        for search in ended:
            del self.moved_at[search.prepared.question.id]
        self.moved_at.update(dict.fromkeys(self.moved_at, time.monotonic()))
        records, self._refused = self._refused, []
        self.counters["failed"] += len(records)
        return records + [self._end(search) for search in ended]

    def under_way(self) -> list[PathRecord]:
        """Records of the questions not ended that have results, for a later run to continue."""
        searches = [*self._interleaver.running, *self._backlog]
        return [record for search in searches if (record := search.record(self._run, self._writer)).evaluations]

    def _path_search(self, job: Job) -> PathSearch:
        return PathSearch(
            self._run.num_layers,
            self._run.options.search,
            self._run.cost,
            np.random.default_rng(seeded_hash(self._run.options.seed, job.question.id)),
            relative_margin=self._evaluator.task.generates,
            pinned=self._evaluator.model.pinned_layers,
        )

    def _fill(self) -> None:
        """Keep the batch full, with questions of like length: padding is wasted work."""
        running = self._interleaver.running
        while self._backlog and len(running) < self._run.in_flight:
            near = np.median([search.prepared.tokens for search in running]) if running else 0
            chosen = min(self._backlog, key=lambda search: abs(search.prepared.tokens - near))
            self._backlog.remove(chosen)
            running.append(chosen)
            self.moved_at[chosen.prepared.question.id] = time.monotonic()

    def _spent(self, searches: Sequence[QuestionSearch]) -> dict[str, float]:
        """The work so far, on the model and by these searches."""
        work = self._evaluator.executor.work
        return {
            "busy_s": time.perf_counter(),
            "layers_run": work.layers_run,
            "token_layers": work.token_layers,
            "simulations": sum(search.new_simulations for search in searches),
            "layer_executions": sum(search.layer_executions for search in searches),
        }

    def _end(self, search: QuestionSearch) -> PathRecord:
        record = search.record(self._run, self._writer)
        if search.error is not None:
            self.counters["failed"] += 1
        elif record.status != "searching":
            solved = record.status in SOLVED
            self.counters["searched"] += 1
            self.counters["continued"] += search.earlier_simulations > 0
            self.counters["solved"] += solved
            self.counters["layers_saved"] += record.num_layers - (record.best_depth or 0) if solved else 0
        return record
