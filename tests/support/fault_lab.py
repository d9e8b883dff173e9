"""Runs of `pathgen generate` that fail on purpose: a Ray of their own, actors with faults, processes to kill."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

import pathgen.generate.run
from pathgen.actors.placement import Placement
from pathgen.generate.options import GenerateOptions
from pathgen.generate.run import GenerationRun, Outcome
from pathgen.generate.worker import SearchWorker
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.report.validate import validate_run
from pathgen.search.settings import SearchSettings
from pathgen.store.index import progress_files, read_tables
from pathgen.store.run_folder import RunDirectory
from pathgen.store.schema import SCHEMA, from_table

CPUS = 3
LIMIT = 6
SIMULATIONS = 60
SLOW_S = 0.2
CUDA_ROUND = 9
COMMIT_AT_ONCE = {"LAYERPATHS_SHARD_S": "0", "LAYERPATHS_PROGRESS_S": "0", "OMP_NUM_THREADS": "1"}
"""Every round writes progress, every finished question becomes a shard: so a kill loses no more than a round."""

_RAY = f"""
import ray, sys
context = ray.init(address="local", num_cpus={CPUS}, include_dashboard=False, log_to_driver=False,
                   object_store_memory=100 * 2**20, logging_level="ERROR")
print("address", context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


class FaultyWorker(SearchWorker):
    """A search actor with a fault of its own, as `LAYERPATHS_FAULT` describes one, or of this file.

    `birth` fails its constructor; `slow` makes its rounds last; `patient` does too, after waiting for a third actor;
    `cuda` fails its rounds from the 9th on, as a context does that has failed once. Each tells its process by a file
    beside the run.
    """

    def __init__(self, run, writer: str, fault: str):
        self.fault, self.rounds = fault, 0
        os.environ["LAYERPATHS_FAULT"] = fault if ":" in fault else ""
        self.pids = Path(run.out).parent / "pids"
        with self.pids.open("a") as pids:
            pids.write(f"{os.getpid()}\n")
        if fault == "birth":
            raise RuntimeError("the disk with the model is gone")
        super().__init__(run, writer)

    def step(self) -> None:
        self.rounds += 1
        if self.fault == "patient" and self.rounds > 1:  # after a round there is something to be seen of the run
            wait_for(lambda: len(self.pids.read_text().split()) > 2, limit_s=60.0)
        if self.fault in ("slow", "patient"):
            time.sleep(SLOW_S)
        if self.fault == "cuda" and self.rounds >= CUDA_ROUND:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        super().step()


@contextlib.contextmanager
def ray_in_a_process() -> Iterator[tuple[str, psutil.Process]]:
    """A Ray in a process of its own: its address, and the process."""
    here = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    environment = os.environ | COMMIT_AT_ONCE | here
    process = subprocess.Popen(
        [sys.executable, "-c", _RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = next(line for line in process.stdout if line.startswith("address "))
        yield line.split()[1], psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait(30)


@dataclass
class Lab:
    """Runs on a tiny model and a Ray that is there already.

    Attributes:
        faults: of the actors born next, in order; those after have the last one if `for_all`, else none.
        births: actors made so far.
        bound_to: the node that they were bound to, if they were.
        said: what the last run told the person.
    """

    address: str
    ray: psutil.Process
    model: Path
    faults: Sequence[str] = ()
    for_all: bool = False
    births: int = 0
    bound_to: str | None = None
    said: list[str] = field(default_factory=list)

    def make_actor(self, placement: Placement, run, node: str | None) -> Callable[[str], Any]:
        """In place of `Placement.actor_factory`, on one node or several that see the same disk."""
        self.bound_to = node
        actor = ray.remote(FaultyWorker).options(
            num_cpus=placement.resources["CPU"], max_restarts=0, max_task_retries=0, max_concurrency=2
        )
        after = itertools.repeat(self.faults[-1] if self.for_all else "")
        faults = itertools.chain(self.faults, after)

        def make(writer: str) -> Any:
            self.births += 1
            return actor.remote(run, writer, next(faults))

        return make

    def generate(self, out: Path, faults: Sequence[str] = (), *, for_all: bool = False, **options: Any) -> Outcome:
        """One call in this process."""
        self.faults, self.for_all, self.births, self.said = faults, for_all, 0, []
        search = SearchSettings(simulations=options.pop("simulations", SIMULATIONS))
        defaults: dict[str, Any] = {"limit": LIMIT, "actors": 1, "in_flight": 2}
        return GenerationRun(
            GenerateOptions(
                out=str(out),
                model=str(self.model),
                search=search,
                device="cpu",
                threads_per_actor=1,
                address=self.address,
                quiet=True,
                **(defaults | options),
            ),
            self.said.append,
        ).run()

    def command(self, out: Path, *more: str) -> list[str]:
        """The same call as a command."""
        return [
            *(sys.executable, "-m", "pathgen", "generate", "--out", str(out), "--model", str(self.model)),
            *("--limit", str(LIMIT), "--simulations", str(SIMULATIONS), "--actors", "1", "--in-flight", "2"),
            *("--parallel-leaves", str(SearchSettings().parallel_leaves), "--threads-per-actor", "1"),
            *("--device", "cpu", "--quiet", "--json", *more),
        ]

    def actors(self) -> list[psutil.Process]:
        """Search actors that are alive on this Ray."""
        return [process for process in self.ray.children(recursive=True) if is_actor(process)]


def is_actor(process: psutil.Process) -> bool:
    """Whether a process is a search actor of a command (not of this process, whose actors are faulty ones)."""
    with contextlib.suppress(psutil.Error):
        title = "".join(process.cmdline()[:1])
        return title.startswith("ray::SearchWorker") and process.status() != psutil.STATUS_ZOMBIE
    return False


def start(command: list[str], **environment: str) -> subprocess.Popen:
    """A run as a process."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | COMMIT_AT_ONCE | {"RAY_AUTH_MODE": "disabled"} | environment,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], object], limit_s: float = 180.0) -> float:
    """Wait until it holds; the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - started


def has(out: Path, pattern: str) -> bool:
    """Whether the folder holds such a file."""
    return any(out.glob(pattern))


@contextlib.contextmanager
def meanwhile(*happenings: tuple[Callable[[], object], Callable[[], object]]) -> Iterator[list[float]]:
    """Conditions and what to do once each holds, one after the other; gives the moments at which it was done."""
    ended = threading.Event()
    moments: list[float] = []

    def watch() -> None:
        for condition, action in happenings:
            while not condition():
                if ended.wait(0.005):
                    return
            action()
            moments.append(time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield moments
    finally:
        ended.set()
        thread.join()


def signal_when(number: int, condition: Callable[[], object]) -> contextlib.AbstractContextManager[list[float]]:
    """Sends this process a signal once the condition holds."""
    return meanwhile((condition, lambda: os.kill(os.getpid(), number)))


@dataclass(frozen=True)
class KnownCluster:
    """In the place of a Probe: the lab's Ray is there."""

    address: str

    def nodes(self) -> None:
        """What a driver waits for, seconds of it."""


@contextlib.contextmanager
def own_actors(lab: Lab) -> Iterator[Lab]:
    """Runs of this process make the lab's actors, on its Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Placement,
            "actor_factory",
            lambda placement, worker, run, *, node=None: lab.make_actor(placement, run, node),
        )
        patch.setattr(pathgen.generate.run, "Probe", KnownCluster)
        yield lab


def records(out: Path) -> dict[str, PathRecord]:
    """The committed records; the folder is whole, holds each question once and nothing else."""
    report = validate_run(str(out), 0)
    assert (report.problems, report.notes) == ([], [])
    assert not list(out.glob(".*"))
    return {record.question.id: record for record in from_table(RunDirectory(str(out)).committed.table())}


def under_way(out: Path) -> dict[str, dict[LayerPath, Evaluation]]:
    """Evaluations in progress files, by question."""
    run = RunDirectory(str(out))
    tables, unreadable = read_tables(run.fs, run.root, progress_files(run.fs, run.root), SCHEMA.names)
    assert not unreadable
    found: dict[str, dict[LayerPath, Evaluation]] = {}
    for record in (record for table in tables.values() for record in from_table(table)):
        found.setdefault(record.question.id, {}).update({e.path: e for e in record.evaluations})
    return found


def assert_same(found: dict[str, PathRecord], wanted: dict[str, PathRecord]) -> None:
    """The same questions, and for each the same paths in the same order with the same margins."""
    assert found.keys() == wanted.keys()
    for question_id, record in wanted.items():
        other = found[question_id]
        assert [e.path for e in other.evaluations] == [e.path for e in record.evaluations]
        gaps = [abs(a.margin - b.margin) for a, b in zip(other.evaluations, record.evaluations, strict=True)]
        assert max(gaps) <= 1e-4
        for name in ("status", "stop_reason", "simulations", "layer_executions", "best_path", "seed"):
            assert getattr(other, name) == getattr(record, name)


def depth(evaluations: Sequence[Evaluation] | dict[LayerPath, Evaluation]) -> int:
    """Layer executions of some evaluations."""
    paths = evaluations if isinstance(evaluations, dict) else [evaluation.path for evaluation in evaluations]
    return sum(path.depth for path in paths)
