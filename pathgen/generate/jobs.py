"""What an actor is told: the run's settings as small plain data, and one job per question."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..paths.cost import CostModel
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, PathRecord, seeded_hash
from ..questions.question import Question
from ..search.path_search import PathSearch
from ..search.prior import Prior
from ..search.settings import SearchSettings
from ..store.shards import ShardMetadata


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All that an actor needs to search questions of one run.

    Attributes:
        out: the run's folder.
        token: of the run's lease.
        metadata: origin of the records.
        model: alias, folder or hub id.
        dtype: of the weights.
        device: torch device.
        devices_per_actor: above 1, the model is spread over so many devices.
        task: its name.
        chat: whether prompts go through the chat template.
        search: how one question is searched.
        seconds_budget: of search per question.
        cost: prices paths.
        seed: of the run.
        threads: torch threads.
        in_flight: searches interleaved in one actor.
        prior: calibrated move statistics, or None for a uniform prior.
    """

    out: str
    token: str
    metadata: ShardMetadata
    model: str
    dtype: str
    device: str
    devices_per_actor: int
    task: str
    chat: bool
    search: SearchSettings
    seconds_budget: float | None
    cost: CostModel
    seed: int
    threads: int
    in_flight: int
    prior: Prior | None = None

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return self.metadata.fingerprint


@dataclass(frozen=True, slots=True)
class Job:
    """One question for an actor.

    Attributes:
        question: the question.
        kind: `search` it, or `scan` all single moves for the prior.
        resume: files with stored evaluations, relative to the run's folder.
        attempts: times it has failed before.
    """

    question: Question
    kind: Literal["search", "scan"] = "search"
    resume: tuple[str, ...] = ()
    attempts: int = 0


def blank_record(job: Job, run: RunSettings, num_layers: int, writer: str) -> PathRecord:
    """A record of the question with nothing found yet, status `failed`."""
    question = job.question
    return PathRecord(
        question=question,
        question_sha=question.sha,
        task=run.task,
        status="failed",
        num_layers=num_layers,
        seed=seeded_hash(run.seed, question.id),
        writer=writer,
        attempts=job.attempts + 1,
        created_ms=time.time_ns() // 1_000_000,
    )


def failed_record(job: Job, run: RunSettings, num_layers: int, writer: str, error: str) -> PathRecord:
    """The record of a question that could not be searched."""
    record = blank_record(job, run, num_layers, writer)
    record.error = error
    return record


def fill_searching(
    record: PathRecord, evaluations: Iterable[Evaluation], *, simulations: int, layers_run: int, seconds: float
) -> None:
    """Make it the record of a search or scan under way, which holds what a replay needs."""
    record.status = "searching"
    record.stop_reason = "interrupted"
    record.evaluations = list(evaluations)
    record.simulations = simulations
    record.layer_executions = sum(evaluation.path.depth for evaluation in record.evaluations)
    record.layers_run = layers_run
    record.seconds = seconds


def fill_searched(record: PathRecord, search: PathSearch, *, layers_run: int, seconds: float) -> None:
    """Make it the record of a search that has stopped."""
    base = search.base
    assert base is not None
    assert search.stop_reason is not None
    best = search.best() or base  # unsolved: the full path
    record.status = search.status()
    record.stop_reason = search.stop_reason
    record.base_correct, record.base_margin = base.correct, base.margin
    record.best_path, record.best_depth, record.best_margin = LayerPath(best.path), best.path.depth, best.margin
    record.evaluations = list(search.evaluations)
    record.simulations, record.layer_executions = search.simulations, search.layer_executions
    record.layers_run, record.seconds = layers_run, seconds
