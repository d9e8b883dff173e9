"""What a plain run of `pathgen generate` finds: solved share, depth, margins, and how much of it is luck.

Every question gets its full budget (no early stop). With an --out that holds a finished run of the same
settings the figures are taken from it, without time.

    python -m benchmarks.findings.arc_easy --questions arc_easy.jsonl [--out DIR] [-- --parallel-leaves 8 …]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from benchmarks.lab.generate_runs import FinishedRun, generate
from benchmarks.lab.measurement import machine, mean, run_script, share, target
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.errors import InputError
from pathgen.report.stats import run_stats

COLUMNS = ("status", "base_correct", "base_margin", "best_depth", "best_margin", "num_layers")
LEAST_SOLVED = 0.95
MOST_DEPTH_SHARE = 0.9
"""Mean depth of the solved, in layers of the full path: 27 of 30."""


def margins(values: pl.Series) -> dict[str, Any]:
    """Median and deciles in nats."""
    found = values.drop_nulls().cast(pl.Float64).to_numpy()
    if not len(found):
        return {"median": None, "deciles": None}
    return {"median": float(np.median(found)), "deciles": np.quantile(found, np.arange(1, 10) / 10).tolist()}


def found_figures(rows: pl.DataFrame, seed: int) -> dict[str, Any]:
    """Shares, depth and margins over the records of a run.

    Args:
        rows: one a question, with COLUMNS.
        seed: of the bootstrap.
    """
    solved = rows.filter(pl.col("status").is_in(["kept", "improved"]))
    solved_share = share(solved.height, rows.height)
    depth = mean(solved["best_depth"].to_numpy(), seed) if solved.height else None
    num_layers = int(rows["num_layers"][0])
    return {
        "questions": rows.height,
        "num_layers": num_layers,
        "base_accuracy": share(int(rows["base_correct"].sum()), rows.height),
        "solved_rate": solved_share,
        "mean_best_depth": depth,
        "best_margins_of_solved": margins(solved["best_margin"]),
        "base_margins": margins(rows["base_margin"]),
        "base_margins_of_right": margins(rows.filter(pl.col("base_correct"))["base_margin"]),
        "targets": {
            "solved_rate": target(solved_share["value"], least=LEAST_SOLVED),
            "mean_best_depth": target(depth["value"] if depth else None, most=MOST_DEPTH_SHARE * num_layers),
        },
    }


def time_figures(run: FinishedRun) -> dict[str, Any]:
    """Time and work of this call; no time per question if it found all questions done."""
    summary = run.summary
    rate = summary["questions_per_second"]
    names = ("searched", "actors", "simulations", "layer_executions", "layers_run", "token_layers", "search_seconds")
    return {"seconds_per_question": 1 / rate if rate else None, **{name: summary[name] for name in names}}


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1, help="Only the first N questions.")] = 100,
    simulations: Annotated[int, typer.Option(min=1, help="Per question.")] = 50,
    threads: Annotated[int, typer.Option(min=1, help="torch threads of each actor.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Keep the run here [default: a folder that is removed].")] = None,
    seed: Annotated[int, typer.Option(help="Of the searches and the bootstrap.")] = 0,
    options: Annotated[list[str] | None, typer.Argument(help="After `--`: more options of `pathgen generate`.")] = None,
) -> None:
    """Run and report; the last line on stdout is one JSON document."""
    asked = {
        "--questions": questions,
        "--model": model,
        "--limit": str(limit),
        "--simulations": str(simulations),
        "--threads-per-actor": str(threads),
        "--seed": str(seed),
        "--stop": "budget",
    }
    if clash := sorted(asked.keys() & set(options or ())):
        raise InputError(f"{clash[0]} is an option of this benchmark or fixed by it; leave it out after `--`")
    flat = [part for pair in asked.items() for part in pair]
    with tempfile.TemporaryDirectory() as scratch:
        run = generate(out or Path(scratch) / "run", *flat, *(options or ()))
        found = run_stats(str(run.out))
        print_json(
            {
                "benchmark": "arc_easy",
                "machine": machine(threads),
                "model": model,
                "source": questions,
                "simulations": simulations,
                "seed": seed,
                "options": options or [],
                **found_figures(run.rows(COLUMNS), seed),
                "headroom": found.headroom,
                "action_counts": found.action_counts,
                "this_call": time_figures(run),
            }
        )


if __name__ == "__main__":
    run_script(main)
