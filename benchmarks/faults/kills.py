"""Does a run survive `kill -9`? Kills the driver, an actor, or everything at random moments, and runs it again.

    python -m benchmarks.faults.kills                 # 20 tries each, under half an hour on 2 cores
    python -m benchmarks.faults.kills --tries 3       # a quick look

The model is a tiny random one; commits come every second, so that a run of seconds is cut between all its steps.
One try in four is killed at any moment of a run, the others from the first actor's birth on. The last line of
stdout is one JSON document; exit code 1 if any try lost, doubled or changed a question, or left anything behind.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.lab.killable import ROOT, Run, generate_command, strays
from benchmarks.lab.measurement import run_script
from benchmarks.lab.survival import Reference, Stored, Tally, uninterrupted
from cluster.program.console import print_json

TARGETS = ("driver", "actor", "everything")
SAME_SHARE = 0.99


def attempt(
    command: list[str], out: Path, target: str, moment_s: float, reference: Reference, tally: Tally, rng: random.Random
) -> list[Run]:
    """One kill and what follows; the runs there were. A run that was over before is no try."""
    killed = Run(command, out)
    if not killed.kill_at(moment_s, target, rng):
        return [killed]
    runs = [killed]
    if target == "actor":
        code, summary, _ = killed.wait()
        tally.layers_run_again += max(0, summary.get("layer_executions", 0) - reference.layer_executions)
    else:
        tally.strays += killed.living_actors()
        stored = Stored.read(out)
        runs.append(Run(command, out))
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
    questions: Annotated[int, typer.Option(min=4)] = 96,
    simulations: Annotated[int, typer.Option(min=1)] = 12,
    seed: int = 0,
) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from tiny_checkpoint import save_tiny_model

    started = time.monotonic()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        model = save_tiny_model(Path(folder) / "model")
        command = generate_command(model, questions, simulations, "--actors", "1")
        whole = Path(folder) / "whole"
        reference = uninterrupted(command, whole)
        again = Run(command, whole)
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
                runs += attempt(command, out, target, moment_s, reference, tally, rng)
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
    print_json(report)
    faults = sum(totals[name] for name in counted if name not in ("tries", "differing"))
    raise typer.Exit(int(faults > 0 or totals["differing"] > (1 - SAME_SHARE) * records))


if __name__ == "__main__":
    run_script(main)
