"""Paths with bridges and without, against full depth: accuracy, agreement, divergence on questions with gold.

    python -m benchmarks.bridges.paths --model M --task arc-letter --questions Q --bridges DIR
        --path 26=....--.. --path 24=...----. --out scores.jsonl

Every path runs over the bridges and plainly. Results are kept in --out as they come, so the same command goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.lab.measurement import mean, run_script
from benchmarks.lab.models import Model
from benchmarks.lab.stored_answers import FULL, StoredAnswers, answers_line, load_answers, stored_ways
from cluster.program.progress import counted
from pathgen.bridges.folder import load_bridges
from pathgen.bridges.maps import Bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.evaluation.divergence import Difference, DivergenceMeter
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, find_task
from pathgen.report.figures import figure_table, interval, points

CHUNK = 24
TOGETHER = 4
"""Questions of a batch, taken by length from a chunk in the file's order, so that what is done is a fair sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A path, and the bridges that run where it skips; None: plain skips."""

    path: LayerPath
    bridges: Bridges | None = None


def main(
    model: Model,
    questions: Annotated[str, typer.Option(help="Question source with gold.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    path: Annotated[list[str], typer.Option(help="NAME=PATH; may repeat.")],
    out: Annotated[Path, typer.Option(help="JSON lines of answers (`benchmarks.lab.stored_answers`).")],
    task: Annotated[str, typer.Option(help="arc or arc-letter.")] = "arc",
    limit: Annotated[int | None, typer.Option(help="First N questions.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Score, and print the table."""
    torch.set_num_threads(threads)
    paths = {name: LayerPath.parse(text) for name, _, text in (entry.partition("=") for entry in path)}
    folder, asked_as = resolve_model(model), choice_task(task)
    maps = load_bridges(bridges, fingerprint(folder))
    ways = {f"plain|{name}": Way(path) for name, path in paths.items()}
    ways |= {f"bridged|{name}": Way(path, maps) for name, path in paths.items()}
    asked = load_questions(questions, needs="choices", limit=limit)
    score_ways(PathModel.from_pretrained(str(folder)), asked_as, asked, ways, out)
    Console().print(ways_table(load_answers(out)))


def choice_task(name: str) -> Task:
    """A task that scores choices."""
    task = find_task(name)
    if task.generates:
        raise InputError("--task must score choices: arc or arc-letter")
    return task


def score_ways(model: PathModel, task: Task, questions: Sequence[Question], ways: Mapping[str, Way], out: Path) -> None:
    """Add the answers of all ways, and of full depth, to a file; those that it holds are not computed again."""
    evaluator = Evaluator(model, task)
    known = {name: frozenset(ways) for name, (_, ways) in stored_ways(out).items()}
    left = [question for question in questions if not ways.keys() <= known.get(question.id, frozenset())]
    with out.open("a") as file, counted("scoring", len(left), quiet=False) as on_done:
        if file.tell():
            file.write("\n")  # the last line may have been cut off
        for start in range(0, len(left), CHUNK):
            chunk = [evaluator.prepare(question) for question in left[start : start + CHUNK]]
            chunk.sort(key=lambda prepared: prepared.tokens)
            for part in (chunk[first : first + TOGETHER] for first in range(0, len(chunk), TOGETHER)):
                stored = [known.get(prepared.question.id, frozenset()) for prepared in part]
                missing = {name: way for name, way in ways.items() if any(name not in names for names in stored)}
                for prepared, found in zip(part, _answers(evaluator, part, missing), strict=True):
                    assert prepared.question.gold is not None
                    file.write(answers_line(prepared.question.id, prepared.question.gold, found))
                    evaluator.forget(prepared)
                file.flush()
                on_done(len(part))


def _answers(
    evaluator: Evaluator, part: Sequence[Prepared], ways: Mapping[str, Way]
) -> list[dict[str, tuple[LayerPath, Difference]]]:
    """What the ways and full depth give on some questions; ways with the same bridges run together."""
    found: list[dict[str, tuple[LayerPath, Difference]]] = [{} for _ in part]
    for bridges in _different(way.bridges for way in ways.values()):
        named = {FULL: LayerPath.full(evaluator.model.num_layers)}
        named |= {name: way.path for name, way in ways.items() if way.bridges is bridges}
        with evaluator.model.bridged(bridges):
            rows = DivergenceMeter(evaluator).measure(part, list(named.values()))
        for one, row in zip(found, rows, strict=True):
            one |= {name: (path, value) for (name, path), value in zip(named.items(), row, strict=True)}
    return found


def _different(all_bridges: Iterable[Bridges | None]) -> list[Bridges | None]:
    return list({id(bridges): bridges for bridges in all_bridges}.values())


def ways_table(answers: StoredAnswers, seed: int = 0) -> Table:
    """Accuracy, its difference from full depth in points with a 95 % interval, agreement, divergence."""
    table = figure_table(
        f"way, {len(answers.gold)} questions", "accuracy", "against full, points", "agreement", "nats", no_wrap=True
    )
    right = answers.correct
    for index, name in enumerate(answers.names):
        change = mean(right[index].astype(float) - right[0], seed)
        table.add_row(
            name,
            f"{right[index].mean():.3f}",
            f"{points(change['value'])} {interval(tuple(change['ci95']), points)}",
            f"{1 - answers.differs[index].mean():.3f}",
            f"{answers.divergences[index].mean():.3f}",
        )
    return table


if __name__ == "__main__":
    run_script(main)
