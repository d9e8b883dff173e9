"""What it costs to skip each layer alone, over bridges: on answers by letter, and on answers that the model writes.

    python -m benchmarks.bridges.layer_costs --model M --bridges DIR --out costs.jsonl
        --letters QUESTIONS_WITH_CHOICES --written QUESTIONS --answers OUT_OF_GENERATION

The cost is the divergence from full depth, in nats a scored position: the prompt's last for letters, each position of
full depth's own answer for written ones. --path PATH adds other paths. Results are kept in --out, so the same command
goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.bridges.generation import ASK
from benchmarks.bridges.generation import read as read_answers
from benchmarks.lab.measurement import run_script
from benchmarks.lab.models import Model
from benchmarks.lab.stored_answers import FULL
from cluster.program.progress import counted
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.divergence import DivergenceMeter
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.report.figures import figure_table

TOGETHER = 8
"""Paths of a batch; what is found is kept after each."""
Kept = dict[tuple[str, str, str], float]
"""Divergences by kind, question and path."""


def run(
    model: Model,
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    letters: Annotated[str, typer.Option(help="Questions with choices.")],
    written: Annotated[str, typer.Option(help="Questions of the answers.")],
    answers: Annotated[Path, typer.Option(help="Answers that `bridges.generation` kept.")],
    out: Annotated[Path, typer.Option(help="JSON lines of divergences.")],
    path: Annotated[list[str] | None, typer.Option(help="Another path; may repeat.")] = None,
    limit: Annotated[int, typer.Option(help="Questions of each kind.")] = 4,
    answer_tokens: Annotated[int, typer.Option(help="Of an answer that are scored.")] = 128,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Measure, and print the table."""
    torch.set_num_threads(threads)
    folder = resolve_model(model)
    path_model = PathModel.from_pretrained(str(folder))
    full = LayerPath.full(path_model.num_layers)
    paths = [LayerPath((*full[:layer], 0, *full[layer + 1 :])) for layer in range(len(full))]
    paths += [LayerPath.parse(text) for text in path or ()]
    asked = {
        "letter": (load_questions(letters, needs="choices", limit=limit), "arc-letter", False),
        "written": (own_answers(path_model, written, answers, answer_tokens)[:limit], "math", True),
    }
    known = read(out)
    work = sum(len(questions) for questions, _, _ in asked.values()) * len(paths)
    with (
        path_model.bridged(load_bridges(bridges, fingerprint(folder))),
        out.open("a") as file,
        counted("skipping layers", work - len(known), quiet=False) as on_done,
    ):
        for kind, (questions, task, chat) in asked.items():
            meter = DivergenceMeter(Evaluator(path_model, find_task(task), chat=chat))
            for question, group, found in measured(meter, questions, paths, kind, known):
                for one, value in zip(group, found, strict=True):
                    known[kind, question, str(one)] = value
                    file.write(json.dumps({"kind": kind, "id": question, "path": str(one), "kl": value}) + "\n")
                file.flush()
                on_done(len(group))
    table(paths, known, asked)


def own_answers(model: PathModel, source: str, answers: Path, tokens: int) -> list[Question]:
    """The questions that were answered, with the beginning of full depth's answer as the reference."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    texts = {entry["id"]: entry["answers"][FULL]["text"] for entry in read_answers(answers)}
    return [
        replace(
            question,
            prompt=f"{question.prompt}\n{ASK}",
            reference=tokenizer.decode(tokenizer(texts[question.id], add_special_tokens=False)["input_ids"][:tokens]),
        )
        for question in load_questions(source, needs="reference")
        if question.id in texts
    ]


def measured(
    meter: DivergenceMeter, questions: Sequence[Question], paths: Sequence[LayerPath], kind: str, known: Kept
) -> Iterator[tuple[str, list[LayerPath], list[float]]]:
    """Divergences that are not known, a few paths of one question at a time."""
    for question in questions:
        left = [path for path in paths if (kind, question.id, str(path)) not in known]
        prepared = meter.evaluator.prepare(question)
        for start in range(0, len(left), TOGETHER):
            group = left[start : start + TOGETHER]
            yield question.id, group, [one.divergence for one in meter.measure([prepared], group)[0]]
        meter.forget([prepared])


def read(out: Path) -> Kept:
    """What is known; a line that was cut off is left out."""
    lines = out.read_text().splitlines() if out.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return {(entry["kind"], entry["id"], entry["path"]): entry["kl"] for entry in entries}


def table(paths: Sequence[LayerPath], known: Kept, asked: dict[str, tuple[Sequence[Question], str, bool]]) -> None:
    """Mean divergences, a row for each path."""
    counts = {kind: len(questions) for kind, (questions, _, _) in asked.items()}
    shown = figure_table("skips", *(f"{kind}, {count} questions" for kind, count in counts.items()), no_wrap=True)
    for path in paths:
        means = [
            np.mean([known[kind, question.id, str(path)] for question in questions])
            for kind, (questions, _, _) in asked.items()
        ]
        skips = ", ".join(str(layer) for layer, action in enumerate(path) if not action)
        shown.add_row(skips, *(f"{value:.3f}" for value in means))
    Console().print(shown)


if __name__ == "__main__":
    run_script(run)
