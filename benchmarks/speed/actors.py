"""How a run scales from one actor to two, each with one thread; how much the driver costs, how busy actors are.

python -m benchmarks.speed.actors --questions arc_easy.jsonl
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.lab.generate_runs import FinishedRun, generate
from benchmarks.lab.measurement import apportion, machine, ratio, rotated, run_script, target
from benchmarks.lab.models import Model
from cluster.program.console import print_json

ACTORS = (1, 2)
WARM_UP_QUESTIONS = 2
LEAST_SPEED = 1.7
MOST_DRIVER_SHARE = 0.05
LEAST_BUSY_SHARE = 0.9


def run_figures(run: FinishedRun) -> dict[str, Any]:
    """One run's rate, what its driver cost, and how busy its actors were."""
    summary = run.summary
    return {
        "questions_per_second": summary["questions_per_second"],
        "search_seconds": summary["search_seconds"],
        "wall_seconds": run.wall_s,
        "busy_share": summary["busy_seconds"] / (summary["actors"] * summary["search_seconds"]),
        "driver_share_of_search": run.driver_share_of_search(),
        "driver_cpu_seconds": run.driver_cpu_s,
        "driver_share_of_wall": run.driver_cpu_s / run.wall_s,
        "simulations": summary["simulations"],
        "layers_run": summary["layers_run"],
    }


def search_shares(runs: Sequence[FinishedRun]) -> np.ndarray:
    """[questions] each question's share of the search span, in seconds: the median over the runs."""
    spans = [apportion(run.summary["search_seconds"], run.rows(["seconds"])["seconds"].to_numpy()) for run in runs]
    return np.median(spans, axis=0)


def compare(runs: dict[int, list[FinishedRun]], seed: int) -> dict[str, Any]:
    """Figures by number of actors, the ratio of their rates, and the targets, over medians of the repeats."""
    one, two = ACTORS
    figures = {actors: [run_figures(run) for run in found] for actors, found in runs.items()}
    speed = ratio(search_shares(runs[one]), search_shares(runs[two]), seed)
    pairs = zip(figures[one], figures[two], strict=True)

    def median_of(name: str) -> float:
        return float(np.median([run[name] for run in figures[two]]))

    return {
        "runs": {f"{actors} actors": found for actors, found in figures.items()},
        "speed": speed,
        "speed_by_repeat": [b["questions_per_second"] / a["questions_per_second"] for a, b in pairs],
        "targets": {
            "speed": target(speed["value"], least=LEAST_SPEED),
            "driver_share_of_search": target(median_of("driver_share_of_search"), most=MOST_DRIVER_SHARE),
            "busy_share": target(median_of("busy_share"), least=LEAST_BUSY_SHARE),
        },
    }


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=2, help="Only the first N questions.")] = 24,
    simulations: Annotated[int, typer.Option(min=1, help="Per question.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Runs with each number of actors.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the searches and the bootstrap.")] = 0,
) -> None:
    """Run with one actor and with two, in turns; the last line on stdout is one JSON document."""
    common = ["--questions", questions, "--model", model, "--simulations", str(simulations), "--seed", str(seed)]
    common += ["--threads-per-actor", "1", "--quiet"]
    runs: dict[int, list[FinishedRun]] = {actors: [] for actors in ACTORS}
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch) / "warm-up", *common, "--actors", "1", "--limit", str(min(WARM_UP_QUESTIONS, limit)))
        for repeat in range(repeats):
            for actors in rotated(ACTORS, repeat):
                out = Path(scratch) / f"{actors}-{repeat}"
                runs[actors].append(generate(out, *common, "--actors", str(actors), "--limit", str(limit)))
                rate = runs[actors][-1].summary["questions_per_second"]
                print(f"repeat {repeat + 1}, actors {actors}: {rate:.3f} questions/s", file=sys.stderr, flush=True)
        document = compare(runs, seed)
    print_json(
        {
            "benchmark": "actors",
            "machine": machine(1),
            "model": model,
            "source": questions,
            "questions": limit,
            "simulations": simulations,
            "repeats": repeats,
            "seed": seed,
            **document,
        }
    )


if __name__ == "__main__":
    run_script(main)
