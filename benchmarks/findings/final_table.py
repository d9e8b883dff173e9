"""Accuracy and depth of routers and static paths on questions nobody chose on, paired with full depth.

    python -m benchmarks.findings.final_table --questions sealed.jsonl --scores FILE \
        --system static=static.json@30 --system router=ROUTER_DIR

A system is NAME=ROUTER_DIR, NAME=F.json (its best path), NAME=F.json@D (its best path of depth D or less), or
NAME=digits (a path, one action a layer). Each router is joined by `NAME shuffled`: the same paths dealt to other
questions, which is what it would score if its choices had nothing to do with the question.

Intervals: Wilson for accuracies, paired bootstrap of 10,000 draws for differences, exact McNemar for p.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.lab.digits import from_digits, to_digits
from benchmarks.lab.measurement import ci95, machine, resamples, run_script
from benchmarks.lab.models import Model
from benchmarks.lab.path_scores import PathScores
from cluster.program.console import print_json
from pathgen.evaluation.intervals import mcnemar_p, wilson_interval
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question

Outcomes = NDArray[np.bool_]


def static_path(spec: str) -> LayerPath | None:
    """The path of `digits`, `F.json` or `F.json@D`; None if the spec is a router's folder."""
    if spec.isdigit():
        return from_digits(spec)
    name, _, depth = spec.partition("@")
    if not name.endswith(".json"):
        return None
    from pathgen.static.static_paths import load_static

    found = load_static(name)
    return found.at_depth(int(depth)) if depth else found.best.path


def routed_paths(model: str, folder: str, questions: list[Question]) -> list[LayerPath]:
    """The path that a router takes on each question's prompt."""
    import torch

    from pathgen.engine.path_model import PathModel
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task
    from router.dev.routed_scores import route
    from router.net.policy import RouterPolicy
    from router.saved.loading import load_router, resolve_router

    torch.set_num_threads(2)
    router = load_router(resolve_router(folder))
    evaluator = Evaluator(PathModel.from_pretrained(model), find_task("arc"))
    return route(evaluator, RouterPolicy(router), questions)


def figures(outcomes: Outcomes, full: Outcomes, paths: list[LayerPath], rng: np.random.Generator) -> dict[str, Any]:
    """One row of the table."""
    count = len(outcomes)
    difference = outcomes.astype(float) - full
    won, lost = int((outcomes & ~full).sum()), int((~outcomes & full).sum())
    common = Counter(paths).most_common(1)[0]
    return {
        "accuracy": float(outcomes.mean()),
        "accuracy_ci95": list(wilson_interval(int(outcomes.sum()), count)),
        "delta": float(difference.mean()),
        "delta_ci95": ci95(difference[resamples(count, rng)].mean(1)),
        "p_value": mcnemar_p(won, lost),
        "discordant": [won, lost],
        "mean_depth": float(np.mean([path.depth for path in paths])),
        "distinct_paths": len(set(paths)),
        "off_common_share": 1 - common[1] / count,
        "common_path": to_digits(common[0]),
    }


def main(
    questions: Annotated[str, typer.Option(help="Question file.")],
    scores: Annotated[Path, typer.Option(help="File of scores, added to.")],
    system: Annotated[list[str], typer.Option(help="NAME=SPEC; may repeat.")],
    model: Model = "smollm2-135m",
    num_layers: Annotated[int, typer.Option(help="Of the model.")] = 30,
    limit: Annotated[int | None, typer.Option(help="Questions.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the dealing.")] = 0,
) -> None:
    """Print one JSON object."""
    asked = load_questions(questions, needs="choices", limit=limit)
    count = len(asked)
    rng = np.random.default_rng(seed)
    taken: dict[str, list[LayerPath]] = {"full": [LayerPath.full(num_layers)] * count}
    for entry in system:
        name, _, spec = entry.partition("=")
        path = static_path(spec)
        taken[name] = [path] * count if path else routed_paths(model, spec, asked)
        if path is None:
            dealt = rng.permutation(count)
            taken[f"{name} shuffled"] = [taken[name][index] for index in dealt]
    table = PathScores(scores, model)
    table.compute("arc", {q: list(dict.fromkeys(paths[i] for paths in taken.values())) for i, q in enumerate(asked)})
    right = {
        name: np.array([table.margins("arc", [q], [path])[0, 0] > 0 for q, path in zip(asked, paths, strict=True)])
        for name, paths in taken.items()
    }
    rows = {name: figures(right[name], right["full"], taken[name], rng) for name in taken}
    for name in taken:
        if f"{name} shuffled" in taken:
            rows[name]["against_shuffled"] = figures(right[name], right[f"{name} shuffled"], taken[name], rng)
    print_json(
        {
            "benchmark": "final_table",
            "questions": {"source": Path(questions).name, "count": count},
            "model": model,
            "seed": seed,
            "systems": rows,
            "machine": machine(1),
        }
    )


if __name__ == "__main__":
    run_script(main)
