"""Generated answers along paths with bridges, against full depth: accuracy, equal answers, tokens.

    python -m benchmarks.bridges.generation --model M --questions Q --bridges DIR
        --path 26=....--.. --path 24=...----. --plain 26=....--.. --out answers.jsonl

Each question is asked in a chat and answered with a chain of thought, greedily, along all paths at once in one batch.
Answers are kept in --out as they come, so the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.lab.entries import named_paths
from benchmarks.lab.measurement import run_script
from benchmarks.lab.models import Model
from benchmarks.lab.stored_answers import FULL
from cluster.program.progress import counted
from infer.routed.prompts import encode_prompts
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.decoding import greedy_answers
from pathgen.evaluation.intervals import paired_difference
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.grading import answers_agree, same_answer
from pathgen.questions.loading import load_questions
from pathgen.report.figures import figure_table, interval, points

ASK = "Work it out in a few short lines. End with the answer after ####."


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
    tokenizer = path_model.tokenizer
    assert tokenizer is not None
    bridged = {f"bridged|{name}": one for name, one in named_paths(path).items()}
    ways = [
        (load_bridges(bridges, fingerprint(folder)), bridged | {FULL: LayerPath.full(path_model.num_layers)}),
        (None, {f"plain|{name}": one for name, one in named_paths(plain or []).items()}),
    ]
    asked = load_questions(questions, needs="reference", limit=limit)
    done = {entry["id"] for entry in read(out)}
    left = [question for question in asked if question.id not in done]
    with out.open("a") as file, counted("answering", len(left), quiet=False) as on_done:
        if file.tell():
            file.write("\n")  # the last line may have been cut off
        for start in range(0, len(left), together):
            part = left[start : start + together]
            prompts = encode_prompts(tokenizer, [f"{question.prompt}\n{ASK}" for question in part], chat=True)
            answers: list[dict[str, Any]] = [{} for _ in part]
            for maps, paths in ways:
                rows = [(place, name) for place in range(len(part)) for name in paths]
                if not rows:
                    continue
                with path_model.bridged(maps):
                    found = greedy_answers(
                        path_model,
                        [prompts[place] for place, _ in rows],
                        [paths[name] for _, name in rows],
                        path_model.new_cache(),
                        max_new_tokens=max_new_tokens,
                        stop=(),
                    )
                for (place, name), answer in zip(rows, found, strict=True):
                    answers[place][name] = asdict(answer) | {"tokens": len(tokenizer(answer.text)["input_ids"])}
            for question, given in zip(part, answers, strict=True):
                file.write(json.dumps({"id": question.id, "reference": question.reference, "answers": given}) + "\n")
            file.flush()
            on_done(len(part))
    Console().print(answers_table(read(out)))


def read(out: Path) -> list[dict[str, Any]]:
    """Stored answers; a line that was cut off is left out."""
    lines = out.read_text().splitlines() if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}}")]


def answers_table(entries: Sequence[dict[str, Any]], seed: int = 0) -> Table:
    """Accuracy, its difference from full depth in points with a 95 % interval, equal answers, tokens."""
    table = figure_table(
        f"way, {len(entries)} questions", "accuracy", "against full, points", "same answer", "tokens", no_wrap=True
    )
    references = [entry["reference"] for entry in entries]
    texts = {way: [entry["answers"][way]["text"] for entry in entries] for way in entries[0]["answers"]}
    right = {way: np.array(list(map(answers_agree, given, references))) for way, given in texts.items()}
    for way, given in texts.items():
        found = paired_difference(right[way], right[FULL], seed, same_paths=way == FULL)
        table.add_row(
            way,
            f"{right[way].mean():.3f}",
            f"{points(found.delta)} {interval(found.ci95, points)}",
            f"{np.mean(list(map(same_answer, given, texts[FULL], references))):.3f}",
            f"{np.mean([entry['answers'][way]['tokens'] for entry in entries]):.0f}",
        )
    return table


if __name__ == "__main__":
    run_script(run)
