"""A true loop as a reference: a middle block run again as a whole (a-b-a-b) beside its layers run twice (a-a-b-b).

    python -m benchmarks.findings.looped_block --questions Q.jsonl --limit 200

A path of this project repeats a layer at once, so that looped models' order has no path. Here it runs through the stock
forward over a rebuilt list of layers, for the block sizes that the bench's `repeat_block` tries; both orders run the
same layers as often. Accuracies with Wilson intervals, differences paired, exact McNemar.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.lab.measurement import machine, run_script, share
from benchmarks.lab.models import Model
from benchmarks.published.search import choice_batch, choice_scores, is_right
from cluster.program.console import print_json
from infer.systems.fixed_paths import repeat_paths
from pathgen.evaluation.intervals import mcnemar_p, paired_difference
from pathgen.models.loading import load_model
from pathgen.paths.layer_path import LayerAction, LayerPath
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question


def looped(path: LayerPath) -> list[int]:
    """The layers in order, with the block that the path repeats run again once it has run."""
    block = [layer for layer, action in enumerate(path) if action == LayerAction.REPEAT]
    once = list(range(len(path)))
    return once[: block[-1] + 1] + block + once[block[-1] + 1 :]


def compared(outcomes: list[bool], others: list[bool], seed: int) -> dict[str, Any]:
    """A way beside another on the same questions."""
    found = paired_difference(np.array(outcomes), np.array(others), seed)
    return {**asdict(found), "p_value": mcnemar_p(*found.discordant)}


def main(
    questions: Annotated[str, typer.Option(help="Question file.")],
    limit: Annotated[int | None, typer.Option(help="Questions.")] = 200,
    model: Model = "smollm2-135m",
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    asked: list[Question] = load_questions(questions, needs="choices", limit=limit)
    hf_model, tokenizer = load_model(model, dtype="float32", device="cpu")
    num_layers = hf_model.config.num_hidden_layers
    ways: dict[str, list[int]] = {"full": list(range(num_layers))}
    for size, path in repeat_paths(num_layers).items():
        ways[f"layers twice, block of {size}"] = path.executions
        ways[f"block of {size} again"] = looped(path)
    right: dict[str, list[bool]] = {name: [] for name in ways}
    for number, question in enumerate(asked, start=1):
        batch = choice_batch(tokenizer, question)
        known: dict[tuple[int, ...], bool] = {}  # a block of one layer is the same either way
        for name, layers in ways.items():
            order = tuple(layers)
            if order not in known:
                known[order] = is_right(choice_scores(hf_model, batch, order), question)
            right[name].append(known[order])
        if number % 20 == 0:
            print(f"{number}/{len(asked)} questions", file=sys.stderr, flush=True)
    rows: dict[str, Any] = {}
    for name, outcomes in right.items():
        rows[name] = {"depth": len(ways[name]), "accuracy": share(sum(outcomes), len(outcomes))}
        rows[name]["against_full"] = compared(outcomes, right["full"], seed)
    for size in repeat_paths(num_layers):
        loop, twice = right[f"block of {size} again"], right[f"layers twice, block of {size}"]
        rows[f"block of {size} again"]["against_each_layer_twice"] = compared(loop, twice, seed)
    print_json(
        {
            "benchmark": "looped_block",
            "model": model,
            "questions": len(asked),
            "seed": seed,
            "ways": rows,
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
