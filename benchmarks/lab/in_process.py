"""This project's search in the benchmark's own process: the searcher of an actor, without Ray and without files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lab.measurement import apportion
from pathgen.actors.model_spec import ModelSpec
from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.jobs import BACKLOG, Job, RunSettings
from pathgen.generate.options import GenerateOptions
from pathgen.generate.searcher import Searcher
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.cost import CostModel
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task
from pathgen.search.settings import SearchSettings
from pathgen.store.provenance import ShardMetadata

WRITER = "benchmark"


@dataclass(frozen=True, slots=True)
class Searched:
    """A question's record, and the wall time it took: its share of the time of all that were searched with it."""

    record: PathRecord
    seconds: float


def run_settings(
    path_model: PathModel,
    task: Task,
    model: str,
    search: SearchSettings,
    *,
    seed: int,
    in_flight: int,
    threads: int,
    metadata: ShardMetadata | None = None,
) -> RunSettings:
    """The settings of a run in this process.

    Args:
        path_model: the loaded model.
        task: the task.
        model: the name it was loaded by.
        search: how a question is searched.
        seed: of the run.
        in_flight: questions interleaved.
        threads: torch threads, which the caller has set.
        metadata: of a model that is in no folder; None: that of the folder which `model` names.
    """
    metadata = metadata or ShardMetadata.here(model, fingerprint(resolve_model(model)), task.name)
    dtype = str(path_model.hf_model.dtype).removeprefix("torch.")
    return RunSettings(
        out="",
        token="",
        metadata=metadata,
        model=ModelSpec(model, metadata.fingerprint, dtype=dtype, device="cpu", threads=threads),
        options=GenerateOptions(out="", model=model, task=task.name, search=search, seed=seed),
        cost=CostModel.layers(path_model.num_layers),
        in_flight=in_flight,
    )


class InProcess:
    """Searches questions block by block, as one actor would.

    Args:
        run: the settings.
        evaluator: the model with its task; fresh, since it counts the work on a question over its lifetime.
    """

    def __init__(self, run: RunSettings, evaluator: Evaluator):
        self._capacity = run.in_flight * (1 + BACKLOG)
        self._searcher = Searcher(run, WRITER, evaluator, lambda *_: None)

    @property
    def token_layers(self) -> int:
        """Layer executions in tokens, padding included, over all blocks so far."""
        return int(self._searcher.counters["token_layers"])

    def search(self, questions: Sequence[Question]) -> list[Searched]:
        """Search a block of questions; one result a question, in their order.

        Raises:
            PathgenError: if a question cannot be searched.
        """
        return self._run([Job(question) for question in questions])

    def _run(self, jobs: list[Job]) -> list[Searched]:
        started = time.perf_counter()
        waiting, found = deque(jobs), {}
        while waiting or self._searcher.held:
            while waiting and self._searcher.held < self._capacity:
                self._searcher.take_up(waiting.popleft())
            for record in self._searcher.step():
                if record.status == "failed":
                    raise PathgenError(f"question {record.question.id} cannot be searched ({record.error})")
                found[record.question.id] = record
        records = [found[job.question.id] for job in jobs]
        seconds = apportion(time.perf_counter() - started, [record.seconds or 0.0 for record in records])
        return [Searched(record, float(s)) for record, s in zip(records, seconds, strict=True)]
