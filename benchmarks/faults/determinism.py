"""Whether a search finds the same whatever shares its batch: one in flight, several in flight, and in plain rows.

The search itself is exactly reproducible; what the model gives differs in the last bits with the batch, so that
a near-tie between two moves may turn. Told is how often that happens, and how far margins of one path lie apart.

    OMP_NUM_THREADS=1 python -m benchmarks.faults.determinism --questions arc_easy.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from benchmarks.lab.measurement import machine, run_script, share, target
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.paths.records import PathRecord
from pathgen.questions.loading import load_questions
from pathgen.search.settings import SearchSettings

IN_FLIGHT = 4
"""Questions in flight beside the runs of one at a time."""
LEAST_IDENTICAL = 0.99


def compare(first: Sequence[PathRecord], second: Sequence[PathRecord]) -> dict[str, Any]:
    """How alike two runs over the same questions are.

    Returns:
        `identical`: share of the records that evaluated the same paths in the same order; `same_best`: share
        with the same best path; over all paths that both runs evaluated, `largest_margin_gap_nats`, and
        `undefined_in_one`: how many gave NaN or Inf in one run only.
    """
    pairs = list(zip(first, second, strict=True))
    identical = sum([e.path for e in a.evaluations] == [e.path for e in b.evaluations] for a, b in pairs)
    shared = [margins for a, b in pairs for margins in shared_margins(a, b)]
    gaps = [abs(a - b) for a, b in shared if a is not None and b is not None]
    return {
        "identical": share(identical, len(pairs)),
        "same_best": share(sum(a.best_path == b.best_path for a, b in pairs), len(pairs)),
        "paths_compared": len(shared),
        "largest_margin_gap_nats": max(gaps, default=None),
        "undefined_in_one": sum((a is None) != (b is None) for a, b in shared),
    }


def shared_margins(first: PathRecord, second: PathRecord) -> list[tuple[float | None, float | None]]:
    """The two margins of every path that both evaluated."""
    margins = {evaluation.path: evaluation.margin for evaluation in first.evaluations}
    return [(margins[e.path], e.margin) for e in second.evaluations if e.path in margins]


def results(runs: Mapping[str, Sequence[PathRecord]]) -> dict[str, Any]:
    """Every run against the one with one question in flight."""
    several = compare(runs["one_in_flight"], runs["several_in_flight"])
    return {
        "several_in_flight": several,
        "plain_rows": compare(runs["one_in_flight"], runs["plain_rows"]),
        "targets": {"identical": target(several["identical"]["value"], least=LEAST_IDENTICAL)},
    }


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1, help="Only the first N questions.")] = 100,
    simulations: Annotated[int, typer.Option(min=1, help="Per question.")] = 50,
    parallel_leaves: Annotated[int, typer.Option(min=1, help="Asked at a time.")] = SearchSettings().parallel_leaves,
    threads: Annotated[int, typer.Option(min=1, help="torch threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
) -> None:
    """Search the same questions three times; the last line on stdout is one JSON document."""
    import torch

    from benchmarks.lab.in_process import InProcess, run_settings
    from benchmarks.speed.scoring_ways import plain_evaluator
    from pathgen.engine.path_model import PathModel
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task

    torch.set_num_threads(threads)
    asked = load_questions(questions, needs="choices", limit=limit)
    path_model, task = PathModel.from_pretrained(model), find_task("arc")
    settings = SearchSettings(simulations=simulations, parallel_leaves=parallel_leaves)
    variants = {
        "one_in_flight": (1, Evaluator(path_model, task)),
        "several_in_flight": (IN_FLIGHT, Evaluator(path_model, task)),
        "plain_rows": (1, plain_evaluator(path_model, task)),
    }
    runs = {}
    for name, (in_flight, evaluator) in variants.items():
        run = run_settings(path_model, task, model, settings, seed=seed, in_flight=in_flight, threads=threads)
        runs[name] = [searched.record for searched in InProcess(run, evaluator).search(asked)]
        print(f"{name}: {len(asked)} questions searched", file=sys.stderr, flush=True)
    print_json(
        {
            "benchmark": "determinism",
            "machine": machine(threads),
            "model": model,
            "source": questions,
            "questions": len(asked),
            "simulations": simulations,
            "parallel_leaves": parallel_leaves,
            "in_flight": IN_FLIGHT,
            "seed": seed,
            **results(runs),
        }
    )


if __name__ == "__main__":
    run_script(main)
