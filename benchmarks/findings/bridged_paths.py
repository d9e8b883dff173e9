"""Paths with bridges and without, against full depth: accuracy, agreement, divergence on questions with gold.

    python -m benchmarks.findings.bridged_paths --model M --task arc-letter --questions Q --bridges DIR
        --path 26=....--.. --path 24=...----. --out scores.jsonl

Every path runs over the bridges and plainly. Results are kept in --out as they come, so the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.lab.measurement import run_script
from benchmarks.lab.models import Model
from cluster.program.progress import counted
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.evaluation.divergence import DivergenceMeter
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task

CHUNK = 24
TOGETHER = 4
"""Questions of a batch, taken by length from a chunk in the file's order, so that what is done is a fair sample."""
FULL = "full"


def run(
    model: Model,
    questions: Annotated[str, typer.Option(help="Question source with gold.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    path: Annotated[list[str], typer.Option(help="NAME=PATH; may repeat.")],
    out: Annotated[Path, typer.Option(help="JSON lines of scores.")],
    task: Annotated[str, typer.Option(help="arc or arc-letter.")] = "arc",
    limit: Annotated[int | None, typer.Option(help="First N questions.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Score, and print the table."""
    torch.set_num_threads(threads)
    paths = {name: LayerPath.parse(text) for name, _, text in (entry.partition("=") for entry in path)}
    folder = resolve_model(model)
    path_model = PathModel.from_pretrained(str(folder))
    evaluator = Evaluator(path_model, find_task(task))
    if evaluator.task.generates:
        raise InputError("--task must score choices: arc or arc-letter")
    ways = {"plain": None, "bridged": load_bridges(bridges, fingerprint(folder))}
    asked = load_questions(questions, needs="choices", limit=limit)
    done = read(out)
    wanted = {f"{way}|{name}" for way in ways for name in paths}
    left = [question for question in asked if not wanted <= done.get(question.id, {}).keys()]
    with out.open("a") as file, counted("scoring", len(left), quiet=False) as on_done:
        for start in range(0, len(left), CHUNK):
            chunk = [evaluator.prepare(question) for question in left[start : start + CHUNK]]
            chunk.sort(key=lambda prepared: prepared.tokens)
            for first in range(0, len(chunk), TOGETHER):
                part = chunk[first : first + TOGETHER]
                found: list[dict[str, Any]] = [{} for _ in part]
                for way, maps in ways.items():
                    with path_model.bridged(maps):
                        add(evaluator, part, way, paths, found)
                for prepared, scores in zip(part, found, strict=True):
                    line = {"id": prepared.question.id, "gold": prepared.question.gold, "ways": scores}
                    file.write(json.dumps(line) + "\n")
                    evaluator.forget(prepared)
                file.flush()
                on_done(len(part))
    show(read(out, gold=True))


def add(
    evaluator: Evaluator, part: Sequence[Prepared], way: str, paths: dict[str, LayerPath], found: list[dict[str, Any]]
) -> None:
    """Add the scores and divergences of all paths on some questions, and of full depth."""
    full = LayerPath.full(evaluator.model.num_layers)
    named = {FULL: full} | {f"{way}|{name}": path for name, path in paths.items()}
    differences = DivergenceMeter(evaluator).measure(part, list(named.values()))
    for prepared, row, scores in zip(part, differences, found, strict=True):
        evaluations = evaluator.evaluate([(prepared, path) for path in named.values()])
        for (name, path), difference, evaluation in zip(named.items(), row, evaluations, strict=True):
            scores[name] = {
                "scores": evaluation.choice_scores,
                "kl": difference.divergence,
                "depth": path.depth,
            }


def read(out: Path, *, gold: bool = False) -> dict[str, dict[str, Any]]:
    """Stored ways by question id; with `gold`, the right choice under `gold` too. A torn last line is left out."""
    known: dict[str, dict[str, Any]] = {}
    for line in out.read_text().splitlines() if out.exists() else ():
        if line.endswith("}"):
            entry = json.loads(line)
            ways = known.setdefault(entry["id"], {})
            ways.update(entry["ways"])
            if gold:
                ways["gold"] = entry["gold"]
    return known


def show(known: dict[str, dict[str, Any]]) -> None:
    """Print accuracy, its difference from full depth in points with a 95 % interval, agreement, divergence."""
    table = Table(box=None)
    for name in ("way", "questions", "accuracy", "against full, points", "agreement", "divergence, nats"):
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    for way in dict.fromkeys(name for ways in known.values() for name in ways if name != "gold"):
        rows = [ways for ways in known.values() if way in ways]
        chosen = np.array([np.argmax(row[way]["scores"]) for row in rows])
        full = np.array([np.argmax(row[FULL]["scores"]) for row in rows])
        right = np.array([row["gold"] for row in rows])
        change = 100 * ((chosen == right).astype(float) - (full == right))
        table.add_row(
            way,
            str(len(rows)),
            f"{(chosen == right).mean():.3f}",
            f"{change.mean():+.1f} ± {1.96 * change.std() / len(rows) ** 0.5:.1f}",
            f"{(chosen == full).mean():.3f}",
            f"{np.mean([row[way]['kl'] for row in rows]):.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    run_script(run)
