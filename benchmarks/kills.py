"""Does a run survive `kill -9`? Kills the driver, an actor, or everything at random moments, and runs it again.

    python benchmarks/kills.py                 # 20 tries each, under half an hour on 2 cores
    python benchmarks/kills.py --tries 3       # a quick look

The model is a tiny random one; commits come every second, so that a run of seconds is cut between all its steps.
One try in four is killed at any moment of a run, the others from the first actor's birth on. The last line of
stdout is one JSON document; exit code 1 if any try lost, doubled or changed a question, or left anything behind.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from pathgen.actions import LayerPath, all_moves
from pathgen.index import progress_files, read_tables, shard_files
from pathgen.records import PathRecord
from pathgen.rundir import RunDirectory
from pathgen.shards import SCHEMA, from_table

ROOT = Path(__file__).parents[1]
ACTOR_TITLE = "ray::SearchWorker"
TARGETS = ("driver", "actor", "everything")
MARGIN_NATS = 1e-4
SAME_SHARE = 0.99
COMMIT_S = 1.0
ACTORS_GONE_WITHIN_S = 10.0
ALL_GONE_WITHIN_S = 90.0
"""Ray's agents look for their head for a minute after it was killed."""
RUN_LIMIT_S = 300.0
CALIBRATED = 4


class Run:
    """One process of `pathgen generate` with all its descendants, none of which outlives it unseen."""

    def __init__(self, command: list[str]):
        shorter = {"OMP_NUM_THREADS": "1", "LAYERPATHS_SHARD_S": str(COMMIT_S), "LAYERPATHS_PROGRESS_S": str(COMMIT_S)}
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  it lives as long as the run
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=os.environ | shorter,
            cwd=ROOT,
            start_new_session=True,
        )
        self.driver = psutil.Process(self.process.pid)
        self.descendants: set[psutil.Process] = set()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def look(self) -> list[psutil.Process]:
        """The actors there are now; takes note of all descendants."""
        with suppress(psutil.Error):
            self.descendants.update(self.driver.children(recursive=True))
        return [process for process in self.descendants if is_actor(process)]

    def wait(self) -> tuple[int, dict[str, Any], float | None]:
        """Exit code, the JSON it printed, and when its first actor was seen."""
        born_s = None
        while self.process.poll() is None:
            if self.look() and born_s is None:
                born_s = self.seconds
            if self.seconds > RUN_LIMIT_S:
                self.kill("everything")
            time.sleep(0.05)
        text = self.process.stdout.read() if self.process.stdout else ""
        return self.process.returncode, json.loads(text) if text.strip() else {}, born_s

    def kill_at(self, moment_s: float, target: str, rng: random.Random) -> bool:
        """Kill `target` at a moment, or as soon as there is such a process; False if the run ended before."""
        while self.process.poll() is None:
            actors = self.look()
            if self.seconds >= moment_s and (actors or target != "actor"):
                self.kill(target, rng.choice(actors) if target == "actor" else None)
                return True
            time.sleep(0.02)
        return False

    def kill(self, target: str, actor: psutil.Process | None = None) -> None:
        """SIGKILL; of everything the driver goes first, so that nobody can tidy up."""
        self.look()
        victims = {"driver": [self.driver], "actor": [actor], "everything": [self.driver, *self.descendants]}[target]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()  # psutil compares start times: a reused pid is never hit
        if target != "actor":
            self.process.wait()

    def errors(self) -> str:
        """What it wrote to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().strip()

    def living_actors(self) -> int:
        """How many actors live on after ACTORS_GONE_WITHIN_S."""
        _, alive = psutil.wait_procs([p for p in self.descendants if is_actor(p)], timeout=ACTORS_GONE_WITHIN_S)
        return len(alive)


def strays(runs: list[Run]) -> list[str]:
    """Descendants of ended runs that live on after ALL_GONE_WITHIN_S; they are ended."""
    _, alive = psutil.wait_procs([p for run in runs for p in run.descendants], timeout=ALL_GONE_WITHIN_S)
    names = []
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            names.append(f"outlived its run: {' '.join(process.cmdline())[:200]} ({process.status()})")
            process.kill()
    return names


def is_actor(process: psutil.Process) -> bool:
    """Whether it is a living search actor."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:1][0].startswith(ACTOR_TITLE)
    except (psutil.Error, IndexError):
        return False


@dataclass
class Stored:
    """What a run's folder holds, raw."""

    records: list[PathRecord]
    evaluated: dict[str, set[LayerPath]]
    has_prior: bool
    leftovers: list[str]

    @classmethod
    def read(cls, out: Path) -> Stored:
        """Shards and progress files; unreadable ones are leftovers."""
        run = RunDirectory(str(out))
        committed, bad = read_tables(run.fs, run.root, shard_files(run.fs, run.root), SCHEMA.names)
        progress, torn = read_tables(run.fs, run.root, progress_files(run.fs, run.root), SCHEMA.names)
        records = [record for table in committed.values() for record in from_table(table)]
        evaluated: dict[str, set[LayerPath]] = {}
        for record in [*records, *(record for table in progress.values() for record in from_table(table))]:
            evaluated.setdefault(record.question_id, set()).update(e.path for e in record.evaluations)
        hidden = [str(path.relative_to(out)) for path in out.rglob(".*")] if out.exists() else []
        return cls(records, evaluated, (out / "prior.json").exists(), [*bad, *torn, *hidden])


@dataclass
class Reference:
    """The uninterrupted run."""

    records: dict[str, PathRecord]
    calibrated: list[str]
    layer_executions: int
    seconds: float
    first_actor_s: float

    def still_to_run(self, stored: Stored) -> int:
        """Layer executions that a run which goes on from `stored` cannot avoid."""
        done = {record.question_id for record in stored.records}
        total = 0
        for question_id, record in self.records.items():
            if question_id in done:
                continue
            wanted = {evaluation.path for evaluation in record.evaluations}
            if question_id in self.calibrated and not stored.has_prior:
                full = LayerPath.full(record.num_layers)
                wanted |= {path for move in all_moves(record.num_layers) if (path := move.apply(full)).depth}
            total += sum(path.depth for path in wanted - stored.evaluated.get(question_id, set()))
        return total

    def differing(self, records: list[PathRecord]) -> int:
        """Records that evaluated other paths, another order, or got margins further than MARGIN_NATS away."""
        return sum(not _same(self.records[record.question_id], record) for record in records)


def _same(one: PathRecord, other: PathRecord) -> bool:
    pairs = list(zip(one.evaluations, other.evaluations, strict=False))
    return (
        len(one.evaluations) == len(other.evaluations)
        and all(a.path == b.path for a, b in pairs)
        and all(abs((a.margin or 0.0) - (b.margin or 0.0)) <= MARGIN_NATS for a, b in pairs)
        and (one.status, one.stop_reason, one.simulations) == (other.status, other.stop_reason, other.simulations)
    )


@dataclass
class Tally:
    """What the tries against one target came to.

    All but `tries`, `seconds` and `layers_run_again` should be 0. The latter is counted for killed actors alone:
    layer executions beyond those of the uninterrupted run.
    """

    tries: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    wrong_exit: int = 0
    left_behind: int = 0
    strays: int = 0
    layers_run_again_though_stored: int = 0
    layers_run_again: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def check(self, out: Path, reference: Reference) -> None:
        """Compare the folder of an ended run with the uninterrupted one."""
        found = Stored.read(out)
        counts = Counter(record.question_id for record in found.records)
        self.lost += len(reference.records.keys() - counts.keys())
        self.doubled += sum(count > 1 for count in counts.values())
        self.differing += reference.differing(found.records)
        self.left_behind += len(found.leftovers)
        self.problems += found.leftovers


def uninterrupted(command: list[str], out: Path) -> Reference:
    """The run that all others must equal."""
    run = Run(command)
    code, summary, born_s = run.wait()
    if code:
        raise typer.BadParameter(f"the uninterrupted run ended with {code}: {run.errors()}")
    records = {record.question_id: record for record in Stored.read(out).records}
    from pathgen.questions import load_questions

    calibrated = [question.id for question in load_questions("builtin", needs="choices", limit=CALIBRATED)]
    return Reference(records, calibrated, summary["layer_executions"], run.seconds, born_s or 0.0)


def attempt(
    command: list[str], out: Path, target: str, moment_s: float, reference: Reference, tally: Tally, rng: random.Random
) -> list[Run]:
    """One kill and what follows; the runs there were. A run that was over before is no try."""
    killed = Run(command)
    if not killed.kill_at(moment_s, target, rng):
        return [killed]
    runs = [killed]
    if target == "actor":
        code, summary, _ = killed.wait()
        tally.layers_run_again += max(0, summary.get("layer_executions", 0) - reference.layer_executions)
    else:
        tally.strays += killed.living_actors()
        stored = Stored.read(out)
        runs.append(Run(command))
        code, summary, _ = runs[-1].wait()
        again = summary.get("layer_executions", 0) - reference.still_to_run(stored)
        tally.layers_run_again_though_stored += max(0, again)
    if code:
        tally.wrong_exit += 1
        tally.problems.append(f"{target} at {moment_s:.1f} s: exit {code}: {runs[-1].errors()[-500:]}")
    tally.tries += 1
    tally.check(out, reference)
    return runs


def moments(count: int, reference: Reference, target: str, rng: random.Random) -> Iterator[float]:
    """Random moments: one in four anywhere in a run, the others one in each equal part of the time with actors."""
    for number in range(count):
        anywhere = target != "actor" and number % 4 == 0
        start_s = 0.0 if anywhere else reference.first_actor_s
        part = rng.random() if anywhere else (number + rng.random()) / count
        yield start_s + part * (reference.seconds - start_s)


def main(
    tries: Annotated[int, typer.Option(min=1, help="Kills of each target.")] = 20,
    questions: Annotated[int, typer.Option(min=CALIBRATED)] = 96,
    simulations: Annotated[int, typer.Option(min=1)] = 12,
    seed: int = 0,
) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_checkpoint import save_tiny_model

    started = time.monotonic()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        model = save_tiny_model(Path(folder) / "model")

        def command(out: Path) -> list[str]:
            arguments = {
                "model": model,
                "out": out,
                "limit": questions,
                "simulations": simulations,
                "actors": 1,
                "threads-per-actor": 1,
                "calibrate": CALIBRATED,
            }
            flags = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
            return [sys.executable, "-m", "pathgen", "generate", *flags, "--json", "--quiet"]

        whole = Path(folder) / "whole"
        reference = uninterrupted(command(whole), whole)
        again = Run(command(whole))
        code, summary, _ = again.wait()
        finished = {
            "exit": code,
            "actors": summary["actors"],
            "seconds": round(again.seconds, 2),
            "processes": len(again.descendants),
        }
        tallies = {target: Tally() for target in TARGETS}
        for target, tally in tallies.items():
            begun = time.monotonic()
            runs: list[Run] = []
            for number, moment_s in enumerate(moments(tries, reference, target, rng)):
                out = Path(folder) / f"{target}-{number}"
                runs += attempt(command(out), out, target, moment_s, reference, tally, rng)
                print(f"{target} {number} at {moment_s:.1f} s: {tally}", file=sys.stderr, flush=True)
            tally.seconds = round(time.monotonic() - begun, 1)
            outlived = strays(runs)
            tally.strays += len(outlived)
            tally.problems += outlived
    counted = ("tries", "lost", "doubled", "differing", "wrong_exit", "left_behind", "strays")
    totals = {name: sum(getattr(tally, name) for tally in tallies.values()) for name in counted}
    records = totals["tries"] * len(reference.records)
    report = {
        **totals,
        "differing_share": totals["differing"] / records if records else None,
        "seconds": round(time.monotonic() - started, 1),
        "uninterrupted_seconds": round(reference.seconds, 1),
        "layer_executions": reference.layer_executions,
        "finished_again": finished,
        "by_target": {target: asdict(tally) for target, tally in tallies.items()},
    }
    print(json.dumps(report))
    faults = sum(totals[name] for name in counted if name not in ("tries", "differing"))
    raise typer.Exit(int(faults > 0 or totals["differing"] > (1 - SAME_SHARE) * records))


if __name__ == "__main__":
    typer.run(main)
