"""What a run costs beside its searches: the driver per question, resuming a large folder, and what 1,000 actors need.

    python -m benchmarks.speed.scale                                        # 100,000 questions, about ten minutes
    python -m benchmarks.speed.scale --questions 200 --actors 2 --seats 4   # a quick look

The whole of `pathgen generate` runs, but for its actors: they wait instead of searching, and commit records of whole
searches by the real writer. Three parts: N actors, each a process; M actors that share a few processes, since a fleet
cannot tell; and the folder of the first part resumed by real commands, the last of them with one more question and
the real model, on a Ray of this machine's cores that runs already. CPU seconds are those of the driver's process, with
Ray's threads in it; Ray's own processes are not.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import psutil
import typer

from benchmarks.lab.measurement import machine, run_script, target
from benchmarks.lab.stopwatch import Stopwatch
from benchmarks.lab.watched import run_command
from cluster.program.console import print_json
from pathgen.errors import PathgenError
from pathgen.generate.options import GenerateOptions
from pathgen.search.settings import SearchSettings

HOSTS = 8
"""Processes that the seats share."""
MOST_RESUME_S = 10.0
FLUSH_AT_ONCE = {"LAYERPATHS_PROGRESS_S": "0"}
RAY_CPUS = 2048
"""What Ray is told it has: actors that wait need none."""


def prepare_ray(scratch: str) -> None:
    """Loopback and a token, before anything imports ray."""
    token = Path(scratch) / "token"
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
    os.environ |= {"RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}


@contextmanager
def local_cluster(num_cpus: int, **environment: str) -> Iterator[str]:
    """A Ray that believes in so many cores, its processes in this environment; its address."""
    from ray.cluster_utils import Cluster

    with mock.patch.dict(os.environ, environment):
        head = {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def write_questions(path: Path, count: int) -> None:
    """Multiple choice of four, the first being right."""
    with path.open("w") as file:
        for number in range(count):
            choices = [f"{word} of kind {number % 97}" for word in ("wood", "iron", "glass", "wool")]
            text = f"Question {number}: which of these would a builder of floating bridges rather use, and why?"
            print(json.dumps({"id": f"q{number}", "question": text, "choices": choices, "answer": 0}), file=file)


def run_fleet(options: GenerateOptions, factory: Any) -> dict[str, Any]:
    """One call of `pathgen generate` in this process with these actors; what it cost its driver."""
    from cluster.fleet.fleet import Fleet
    from cluster.program.progress import ProgressView
    from pathgen.actors.placement import Placement
    from pathgen.generate import run as generation
    from pathgen.generate.run import GenerationRun
    from pathgen.store.committed import CommittedRows
    from pathgen.store.run_folder import RunDirectory

    watch = Stopwatch()
    memory_mb: dict[int, float] = {}

    def update(view: ProgressView, done: int, *_: Any) -> None:
        memory_mb[done] = psutil.Process().memory_info().rss / 2**20

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Placement, "actor_factory", lambda self, worker, run, **_: factory(run)))
        stack.enter_context(mock.patch.object(ProgressView, "update", update))
        for owner, name in ((Fleet, "run"), (RunDirectory, "scan"), (generation, "compact"), (CommittedRows, "table")):
            stack.enter_context(watch.around(owner, name))
        with watch.measure("whole"):
            with watch.measure("load"):
                run = GenerationRun(options, lambda line: print(line, file=sys.stderr))
            outcome = run.run()
    if outcome.exit_code:
        raise PathgenError(f"the run ended with exit code {outcome.exit_code}")
    summary, searched = outcome.summary, outcome.summary.searched
    early = min((done for done in memory_mb if done >= searched / 10), default=searched)
    return {
        "actors": summary.actors,
        "questions": searched,
        "shards": len(os.listdir(Path(options.out) / "paths")),
        "search_seconds": summary.search_seconds,
        "questions_per_second": summary.questions_per_second,
        "driver_fleet_cpu_ms_per_question": 1000 * watch.cpu_s["run"] / searched,
        "driver_cpu_ms_per_question": 1000 * watch.cpu_s["whole"] / searched,
        "driver_fleet_share_of_a_core": watch.cpu_s["run"] / watch.wall_s["run"],
        "driver_memory_mb": {str(done): memory_mb.get(done) for done in (early, searched)},
        "seconds": watch.wall_s,
        "cpu_seconds": watch.cpu_s,
    }


def measure_actors(common: dict[str, Any], latency_s: float) -> dict[str, Any]:
    """A run on actors that are processes."""
    from benchmarks.lab.fake_search import actor_factory

    return run_fleet(GenerateOptions(**common), lambda run: actor_factory(run, latency_s))


def measure_seats(common: dict[str, Any], latency_s: float) -> dict[str, Any]:
    """A run on actors that share processes."""
    import ray

    from benchmarks.lab.fake_search import seat_factory
    from cluster.fleet.remote_actor import RemoteActor

    seats = common["actors"]
    # A seat is no Ray actor: it has drained by then, and its process ends with the run.
    with mock.patch.object(RemoteActor, "kill", side_effect=lambda: ray.put(None)):
        return run_fleet(GenerateOptions(**common), lambda run: seat_factory(run, latency_s, seats, min(HOSTS, seats)))


def evaluated(out: Path) -> list[Path]:
    """Files that hold evaluations, of searches ended or under way."""
    return [*out.glob("paths/part-*"), *out.glob(".progress/*.parquet")]


def seconds_to_first_search(arguments: list[str], out: Path) -> float:
    """From the start of `pathgen generate` to the first evaluations on disk; it is stopped then."""
    command = [sys.executable, "-m", "pathgen", *arguments, "--out", str(out), "--quiet", "--json"]
    before = set(evaluated(out))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    started = time.perf_counter()
    try:
        while not set(evaluated(out)) - before:
            if process.poll() is not None:
                raise PathgenError(f"pathgen {' '.join(arguments)} ended before it searched ({process.returncode})")
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def measure_resume(common: dict[str, Any], count: int, tries: int) -> dict[str, Any]:
    """Real commands on a folder that is done up to `count` questions.

    The model is loaded and searched in earnest once there is one question more; the same on an empty folder tells how
    much of the time is the folder's. Each of several tries is stopped at its first evaluations, on a copy of it.
    """
    out = common["out"]
    settings = ["generate", "--model", common["model"], "--questions", common["questions"], "--device", "cpu"]
    settings += ["--simulations", str(common["search"].simulations), "--threads-per-actor", "1", "--actors", "1"]
    again = [*settings, "--out", out, "--limit", str(count)]
    commands = {
        "dry_run_of_a_tenth": run_command(*settings, "--out", out, "--limit", str(count // 10), "--dry-run"),
        "dry_run": run_command(*again, "--dry-run"),
        "finished_again": run_command(*again, "--quiet"),
        "stats": run_command("stats", out),
    }
    known = (commands["dry_run"].answer["done_before"], commands["stats"].answer["done"])
    if known != (count, count):
        raise PathgenError(f"{out} should hold {count} questions done; the commands say {known}")
    starts: dict[str, list[float]] = {"of_an_empty_folder": [], "of_the_large_folder": []}
    with local_cluster(os.cpu_count() or 1, **FLUSH_AT_ONCE) as address:
        starting = [*settings, "--address", address]
        seconds_to_first_search([*starting, "--limit", "1"], Path(f"{out}-first"))  # Ray warms up too
        for number in range(tries):
            folders = {"of_an_empty_folder": f"{out}-fresh-{number}", "of_the_large_folder": f"{out}-{number}"}
            shutil.copytree(out, folders["of_the_large_folder"])
            for what, limit in (("of_an_empty_folder", 1), ("of_the_large_folder", count + 1)):
                starts[what].append(seconds_to_first_search([*starting, "--limit", str(limit)], Path(folders[what])))
                shutil.rmtree(folders[what])
    taken = {
        name: {"seconds": ended.wall_s, "cpu_seconds": ended.clock[-1][1], "peak_memory_mb": ended.peak_memory_mb}
        for name, ended in commands.items()
    }
    return {**taken, "first_search_seconds": starts}


def main(
    questions: Annotated[int, typer.Option(min=10, help="Of the large run.")] = 100_000,
    actors: Annotated[int, typer.Option(min=1, help="Processes that wait and commit.")] = 32,
    latency_s: Annotated[float, typer.Option(min=0, help="Per question; each actor has 4 in flight.")] = 0.25,
    seats: Annotated[int, typer.Option(min=1, help="Actors that share processes.")] = 1000,
    seat_questions: Annotated[int, typer.Option(min=1, help="Of the run on them.")] = 10_000,
    seat_latency_s: Annotated[float, typer.Option(min=0, help="Per question there.")] = 20.0,
    starts: Annotated[int, typer.Option(min=1, help="On the large folder, and on an empty one.")] = 5,
    simulations: Annotated[int, typer.Option(min=1, help="Evaluations of each record, besides full depth.")] = 50,
    model: Annotated[str, typer.Option(help="The resumed run loads it; the others take its shape.")] = "smollm2-135m",
) -> None:
    """Measure the three parts; the last line on stdout is one JSON document."""
    with tempfile.TemporaryDirectory() as scratch:
        prepare_ray(scratch)
        source = Path(scratch) / "questions.jsonl"
        write_questions(source, questions + 1)
        common = {
            "model": model,
            "questions": str(source),
            "search": SearchSettings(simulations=simulations),
            "threads_per_actor": 1,
            "in_flight": 4,
            "device": "cpu",
            "quiet": True,
        }
        large = common | {"out": f"{scratch}/large", "actors": actors, "limit": questions}
        seated = common | {"out": f"{scratch}/seats", "actors": seats, "limit": seat_questions}
        with local_cluster(RAY_CPUS) as address:
            on_processes = measure_actors(large | {"address": address}, latency_s)
        resumed = measure_resume(large, questions, starts)
        with local_cluster(RAY_CPUS) as address:
            on_seats = measure_seats(seated | {"address": address}, seat_latency_s)
    first_search_s = statistics.median(resumed["first_search_seconds"]["of_the_large_folder"])
    print_json(
        {
            "benchmark": "scale",
            "machine": machine(1),
            "model": model,
            "simulations": simulations,
            "latency_seconds": latency_s,
            "seat_latency_seconds": seat_latency_s,
            "processes": on_processes,
            "resume": resumed,
            "seats": on_seats,
            "limit": limit(on_seats),
            "targets": {"first_search_seconds": target(first_search_s, most=MOST_RESUME_S)},
        }
    )


def limit(seats: dict[str, Any]) -> dict[str, Any]:
    """What a driver with one core to itself could keep up with, by what it used with so many actors."""
    rate = seats["questions_per_second"] / seats["driver_fleet_share_of_a_core"]
    return {
        "actors": seats["actors"],
        "questions_per_second": rate,
        "fewest_seconds_per_question_and_actor": seats["actors"] / rate,
    }


if __name__ == "__main__":
    run_script(main)
