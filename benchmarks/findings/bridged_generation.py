"""Generated answers along paths with bridges, against full depth: accuracy, equal answers, tokens.

    python -m benchmarks.findings.bridged_generation --model M --questions Q --bridges DIR
        --path 26=....--.. --path 24=...----. --plain 26=....--.. --out answers.jsonl

Each question is asked in a chat and answered with a chain of thought, greedily, along all paths at once in one batch.
Answers are kept in --out as they come, so the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
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
from pathgen.engine.cache import RoutedCache
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decoding import greedy_answers
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.grading import answers_agree, same_answer
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

FULL = "full"
ASK = "Think step by step. End with the answer after ####."


def run(
    model: Model,
    questions: Annotated[str, typer.Option(help="Question source with references.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    path: Annotated[list[str], typer.Option(help="NAME=PATH over the bridges; may repeat.")],
    out: Annotated[Path, typer.Option(help="JSON lines of answers.")],
    plain: Annotated[list[str] | None, typer.Option(help="NAME=PATH without bridges; may repeat.")] = None,
    limit: Annotated[int | None, typer.Option(help="First N questions.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    together: Annotated[int, typer.Option(help="Questions of a batch.")] = 12,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Answer, and print the table."""
    torch.set_num_threads(threads)
    folder = resolve_model(model)
    path_model = PathModel.from_pretrained(str(folder))
    ways = [
        (
            load_bridges(bridges, fingerprint(folder)),
            named("bridged", path) | {FULL: LayerPath.full(path_model.num_layers)},
        ),
        (None, named("plain", plain or [])),
    ]
    task = replace(find_task("math"), max_new_tokens=max_new_tokens, stop=())
    asked = load_questions(questions, needs="reference", limit=limit)
    done = {entry["id"] for entry in read(out)}
    left = [question for question in asked if question.id not in done]
    with out.open("a") as file, counted("answering", len(left), quiet=False) as on_done:
        for start in range(0, len(left), together):
            part = left[start : start + together]
            prompts = [prompt(question, path_model) for question in part]
            answers: list[dict[str, str]] = [{} for _ in part]
            for maps, paths in ways:
                with path_model.bridged(maps):
                    rows = [(place, name) for place in range(len(part)) for name in paths]
                    texts = (
                        greedy_answers(
                            path_model,
                            [prompts[place] for place, _ in rows],
                            [paths[name] for _, name in rows],
                            RoutedCache(path_model.num_layers),
                            max_new_tokens=task.max_new_tokens,
                            stop=task.stop,
                        )
                        if rows
                        else []
                    )
                for (place, name), text in zip(rows, texts, strict=True):
                    answers[place][name] = text
            for question, given in zip(part, answers, strict=True):
                file.write(json.dumps({"id": question.id, "reference": question.reference, "answers": given}) + "\n")
            file.flush()
            on_done(len(part))
    show(read(out), path_model)


def named(way: str, entries: Sequence[str]) -> dict[str, LayerPath]:
    """Paths of NAME=PATH entries, by way and name."""
    return {f"{way}|{name}": LayerPath.parse(text) for name, _, text in (entry.partition("=") for entry in entries)}


def prompt(question: Question, model: PathModel) -> list[int]:
    """Token ids of the question in a chat, up to the assistant's turn."""
    turn = [{"role": "user", "content": f"{question.prompt}\n{ASK}"}]
    assert model.tokenizer is not None
    text = str(model.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def read(out: Path) -> list[dict[str, Any]]:
    """Stored answers; a torn last line is left out."""
    lines = out.read_text().splitlines() if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def show(entries: Sequence[dict[str, Any]], model: PathModel) -> None:
    """Print accuracy, its difference from full depth in points with a 95 % interval, equal answers, tokens."""
    table = Table(box=None)
    for name in ("way", "questions", "accuracy", "against full, points", "same answer", "tokens"):
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    right = {FULL: np.array([answers_agree(e["answers"][FULL], e["reference"]) for e in entries], dtype=float)}
    for way in dict.fromkeys(name for entry in entries for name in entry["answers"]):
        texts = [entry["answers"][way] for entry in entries]
        right[way] = np.array(
            [answers_agree(t, e["reference"]) for t, e in zip(texts, entries, strict=True)], dtype=float
        )
        same = [same_answer(t, e["answers"][FULL], e["reference"]) for t, e in zip(texts, entries, strict=True)]
        change = 100 * (right[way] - right[FULL])
        assert model.tokenizer is not None
        table.add_row(
            way,
            str(len(entries)),
            f"{right[way].mean():.3f}",
            f"{change.mean():+.1f} ± {1.96 * change.std() / len(entries) ** 0.5:.1f}",
            f"{np.mean(same):.3f}",
            f"{np.mean([len(model.tokenizer(text)['input_ids']) for text in texts]):.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    run_script(run)
