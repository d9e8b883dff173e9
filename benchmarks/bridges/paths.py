"""Paths with bridges and without, against full depth: accuracy, agreement, divergence on questions with gold.

    python -m benchmarks.bridges.paths --model M --task arc-letter --questions Q --bridges DIR
        --path 26=....--.. --path 24=...----. --out scores.jsonl > result.json

Every path runs over the bridges and plainly. Answers are kept in --out as they come, so the same command goes on; with
fewer of the questions it tells of these. `bridges.depth_picture` draws its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.lab.entries import named_paths
from benchmarks.lab.measurement import machine, mean, run_script
from benchmarks.lab.models import Model, model_title
from benchmarks.lab.stored_answers import FULL, StoredAnswers, answers_line, load_answers, stored_ways
from cluster.program.console import print_json
from cluster.program.progress import counted
from pathgen.bridges.folder import load_bridges
from pathgen.bridges.maps import Bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.evaluation.divergence import Difference, DivergenceMeter
from pathgen.evaluation.evaluator import Evaluator, Prepared
from pathgen.evaluation.intervals import mcnemar_p, paired_difference, wilson_interval
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, find_task
from pathgen.report.figures import figure_table, interval, points

BRIDGED, PLAIN = "bridged", "plain"
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
    asked: Annotated[str | None, typer.Option(help="What the questions are, for the picture.")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Score; print a table to stderr, and one JSON object."""
    torch.set_num_threads(threads)
    folder, asked_as = resolve_model(model), choice_task(task)
    maps = load_bridges(bridges, fingerprint(folder))
    info = maps.info
    assert info is not None  # of the folder
    ways: dict[str, Way] = {}
    for name, one in named_paths(path).items():
        ways |= {f"{BRIDGED}|{name}": Way(one, maps), f"{PLAIN}|{name}": Way(one)}
    given = load_questions(questions, needs="choices", limit=limit)
    score_ways(partial(PathModel.from_pretrained, str(folder)), asked_as, given, ways, out)
    answers = load_answers(out, list(ways), {question.id for question in given})
    rows, count = ways_measured(answers, seed), len(answers.gold)
    Console(stderr=True).print(ways_table(rows, count))
    print_json(
        {
            "benchmark": "bridged_paths",
            "model": model_title(model),
            "task": task,
            "questions": count,
            "asked": asked or f"{count:,} questions of {Path(questions).stem}",
            "bridges": {"tokens": info.tokens, "rank": info.rank or "full", "text": info.text, "digest": info.digest},
            "seed": seed,
            "ways": rows,
            "machine": machine(threads),
        }
    )


def choice_task(name: str) -> Task:
    """A task that scores choices."""
    task = find_task(name)
    if task.generates:
        raise InputError("--task must score choices: arc or arc-letter")
    return task


def score_ways(
    load: Callable[[], PathModel], task: Task, questions: Sequence[Question], ways: Mapping[str, Way], out: Path
) -> None:
    """Add the answers of all ways, and of full depth, to a file; those that it holds are not computed again.

    Without any that is missing no model is loaded.
    """
    known = {name: frozenset(ways) for name, (_, ways) in stored_ways(out).items()}
    left = [question for question in questions if not ways.keys() <= known.get(question.id, frozenset())]
    if not left:
        return
    evaluator = Evaluator(load(), task)
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


def ways_measured(answers: StoredAnswers, seed: int) -> dict[str, dict[str, Any]]:
    """Each way's path, and shares of right answers and of full depth's answers, with 95 % intervals.

    `gain` is of right answers, against full depth, paired over questions; `p` is McNemar's; divergence is in nats.
    """
    rows = {}
    for index, name in enumerate(answers.names):
        right, kept = answers.correct[index], ~answers.differs[index]
        against = paired_difference(right, answers.correct[0], seed, same_paths=index == 0)
        nats = mean(answers.divergences[index], seed)
        rows[name] = {
            "path": str(answers.paths[index]),
            "accuracy": float(right.mean()),
            "gain": against.delta,
            "gain_ci95": list(against.ci95),
            "won": against.discordant[0],
            "lost": against.discordant[1],
            "p": mcnemar_p(*against.discordant),
            "agreement": float(kept.mean()),
            "agreement_ci95": list(wilson_interval(int(kept.sum()), len(kept))) if index else [1.0, 1.0],
            "divergence": nats["value"],
            "divergence_ci95": nats["ci95"],
        }
    return rows


def ways_table(rows: Mapping[str, Mapping[str, Any]], questions: int) -> Table:
    """What `ways_measured` gives, as a table."""
    table = figure_table(
        f"way, {questions:,} questions", "accuracy", "against full, points", "agreement", "nats", no_wrap=True
    )
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['accuracy']:.3f}",
            f"{points(row['gain'])} {interval(row['gain_ci95'], points)}",
            f"{row['agreement']:.3f} {interval(row['agreement_ci95'], '{:.3f}'.format)}",
            f"{row['divergence']:.3f}",
        )
    return table


if __name__ == "__main__":
    run_script(main)
