"""Given static paths over bridges against other removals of as many layers, on unseen questions.

    OMP_NUM_THREADS=1 python -m benchmarks.published.given_rivals --model M --task arc-letter --path ....--.
        --prompts DEV --questions UNSEEN --bridges DIR --text FITTED_ON --out FOLDER

As `published.static_rivals`, for models on which its search and its greedy removal would take days: the paths are
given, and run over the bridges as they are (`ours+bridges`) and plainly (`ours`). Beside them, at each path's depth:

- `shortgpt`, `shortgpt+bridges`: the layers of least block influence on --prompts;
- `one map`: the run of layers that changes states least, with one whole map fitted in its place, after ReplaceMe;
- `random`: one set, plainly.

What is fitted and answered is kept in --out, so the same command goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.bridges.paths import Way, choice_task, score_ways
from benchmarks.lab.measurement import machine, run_script
from benchmarks.lab.models import Model, model_title
from benchmarks.lab.stored_answers import load_answers
from benchmarks.published.rival_maps import in_place_of, run_maps, text_draw
from benchmarks.published.rival_paths import least_changing_runs, random_path, run_path
from benchmarks.published.static_rivals import BRIDGED, OURS, compared, show
from cluster.program.console import print_json
from infer.systems.shortgpt import block_influence, pruned_path
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions


def main(
    model: Model,
    path: Annotated[list[str], typer.Option(help="A path that skips layers; one for each depth.")],
    prompts: Annotated[str, typer.Option(help="Question source for influence and runs; no gold is read.")],
    questions: Annotated[str, typer.Option(help="Unseen questions with gold.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    text: Annotated[list[str], typer.Option(help="Source of text to fit `one map` on; may repeat.")],
    out: Annotated[Path, typer.Option(help="Folder of this run.")],
    task: Annotated[str, typer.Option(help="arc or arc-letter.")] = "arc",
    prompt_limit: Annotated[int, typer.Option(help="Prompts for influence and runs.")] = 24,
    limit: Annotated[int | None, typer.Option(help="Unseen questions.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to fit `one map` on.")] = 6000,
    seed: Annotated[int, typer.Option(help="Of draws and intervals.")] = 0,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Print one JSON object, and a table to stderr."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    folder, asked_as = resolve_model(model), choice_task(task)
    path_model = PathModel.from_pretrained(str(folder))
    maps = load_bridges(bridges, fingerprint(folder))
    given = sorted((LayerPath.parse(one) for one in path), key=lambda one: -one.depth)
    skips = [path_model.num_layers - one.depth for one in given]
    evaluator = Evaluator(path_model, asked_as)
    asked = load_questions(prompts, needs="choices", labelled=False, limit=prompt_limit)
    prompt_ids = [evaluator.prepare(question).prompt_ids for question in asked]
    influence = block_influence(path_model, prompt_ids)
    runs = least_changing_runs(path_model, prompt_ids, skips)

    draw_text = text_draw(path_model, text, asked_as, tokens, seed)
    ways: dict[str, Way] = {}
    in_place = run_maps(path_model, runs, draw_text, out)
    for one, count, run, bridge in zip(given, skips, runs, in_place, strict=True):
        pruned = pruned_path(influence, one.depth)
        ways |= {
            f"{BRIDGED}|{one.depth}": Way(one, maps),
            f"{OURS}|{one.depth}": Way(one),
            f"shortgpt|{one.depth}": Way(pruned),
            f"shortgpt+bridges|{one.depth}": Way(pruned, maps),
            f"one map|{one.depth}": Way(
                run_path(path_model.num_layers, run), in_place_of(run, bridge, path_model.num_layers)
            ),
            f"random|{one.depth}": Way(random_path(path_model.num_layers, count, seed)),
        }
    stored = out / "answers.jsonl"
    score_ways(lambda: path_model, asked_as, load_questions(questions, needs="choices", limit=limit), ways, stored)
    answers = load_answers(stored)
    systems = list(dict.fromkeys(name.partition("|")[0] for name in ways))
    rows = {
        str(one.depth): {system: compared(answers, system, [BRIDGED], one.depth, seed) for system in systems}
        for one in given
    }
    show(rows)
    print_json(
        {
            "benchmark": "given_rivals",
            "model": model_title(model),
            "task": task,
            "questions": {"source": Path(questions).name, "count": len(answers.gold)},
            "bridges": maps.digest,
            "one_map_tokens": tokens,
            "prompts": len(asked),
            "seed": seed,
            "paths": {name: str(way.path) for name, way in ways.items()},
            "full_accuracy": float(answers.correct[0].mean()),
            "depths": rows,
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
