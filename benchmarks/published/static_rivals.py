"""Static paths by divergence, with bridges and without, against other ways to remove layers, on unseen questions.

    OMP_NUM_THREADS=1 python -m benchmarks.published.static_rivals --model M --task arc --search DEV --questions UNSEEN
        --bridges DIR --text FITTED_ON --out FOLDER

At 10, 15, 20 and 25 % fewer layers (rounded up):

- `ours`, `ours+bridges`: `pathgen static --target divergence`, from prompts of --search alone; the bridges of each
  depth are refitted along its path, as `pathgen bridge --along` does;
- `greedy`: accuracy-greedy removal, as TALE removes layers, with gold, on as many questions of --search as --times the
  forward tokens of `ours` allow (of search and check, without the fit of the bridges);
- `shortgpt`: the layers of least block influence on the same prompts;
- `one map`: the run of layers that changes states least, with one whole map fitted in its place, after ReplaceMe, on
  the text of the refit;
- `random`: the mean of several sets.

Questions of --search are left out of --questions. Every stage is kept in --out, so the same command goes on; use one
folder for each set of options. Intervals: paired bootstrap over questions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.bridges.paths import Way, choice_task, score_ways
from benchmarks.lab.measurement import machine, mean, run_script
from benchmarks.lab.models import Model, model_title
from benchmarks.lab.stored_answers import StoredAnswers, load_answers
from benchmarks.published.rival_maps import in_place_of, refitted, run_maps, text_draw
from benchmarks.published.rival_paths import greedy_removals, least_changing_runs, random_path, run_path
from cluster.program.console import print_json
from infer.systems.shortgpt import block_influence, pruned_path
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import seeded_hash
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.report.figures import figure_table, interval, percent, points
from pathgen.static.divergence_paths import DivergencePaths
from pathgen.static.divergence_run import find_divergence_paths
from pathgen.static.flops import flops_ratio
from pathgen.static.options import StaticOptions
from pathgen.static.static_paths import load_static

SHARES = (0.10, 0.15, 0.20, 0.25)
"""Of the layers that are skipped."""
OURS, BRIDGED = "ours", "ours+bridges"
INFLUENCE_PROMPTS = 64


def found_paths(options: StaticOptions) -> DivergencePaths:
    """The result of `pathgen static --target divergence`, found once."""
    stored = load_static(options.out) if Path(options.out).exists() else find_divergence_paths(options)
    assert isinstance(stored, DivergencePaths)
    return stored


def greedy(
    evaluator: Evaluator, pool: Sequence[Question], count: int, tokens: float, file: Path
) -> list[dict[str, Any]]:
    """The steps of the greedy removal, as stored; those that are missing run."""
    steps = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    path = LayerPath.parse(steps[-1]["path"]) if steps else LayerPath.full(evaluator.model.num_layers)
    prepared = [evaluator.prepare(question) for question in pool]
    with file.open("a") as out:
        for step in greedy_removals(evaluator, prepared, path, count - len(steps), tokens / count):
            steps.append(asdict(step) | {"path": str(step.path)})
            out.write(json.dumps(steps[-1]) + "\n")
            out.flush()
    return steps


def compared(answers: StoredAnswers, system: str, others: Sequence[str], depth: int, seed: int) -> dict[str, Any]:
    """A system at a depth, against full depth and others; the sets of `random` are averaged on each question."""

    def of(name: str) -> dict[str, NDArray[np.float64]]:
        ways = [place for place, way in enumerate(answers.names) if f"{way}|".startswith(f"{name}|{depth}|")]
        tables = {"accuracy": answers.correct, "agreement": ~answers.differs, "divergence": answers.divergences}
        return {what: table[ways].mean(axis=0) for what, table in tables.items()}

    own, full = of(system), answers.correct[0]
    row: dict[str, Any] = {"questions": len(full)} | {what: float(values.mean()) for what, values in own.items()}
    row["accuracy_against_full"] = mean(own["accuracy"] - full, seed)
    for other in others:
        row[f"{other} minus this"] = {what: mean(of(other)[what] - values, seed) for what, values in own.items()}
    return row


def flops_of(model: PathModel, folder: Path, way: Way) -> float:
    """FLOPs of a way, its maps included, over those of all layers."""
    with model.bridged(way.bridges):
        return flops_ratio(model, folder)(way.path)


def main(
    model: Model,
    search: Annotated[str, typer.Option(help="Question source to search on; ours reads no gold.")],
    questions: Annotated[str, typer.Option(help="Unseen questions with gold.")],
    bridges: Annotated[Path, typer.Option(help="Folder of `pathgen bridge`.")],
    text: Annotated[list[str], typer.Option(help="Source of text to refit and to fit `one map` on; may repeat.")],
    out: Annotated[Path, typer.Option(help="Folder of this run.")],
    task: Annotated[str, typer.Option(help="arc or arc-letter.")] = "arc",
    search_limit: Annotated[int, typer.Option(help="Questions of ours.")] = 64,
    limit: Annotated[int | None, typer.Option(help="Unseen questions.")] = None,
    plain_limit: Annotated[int | None, typer.Option(help="Of these, for the ways without maps.")] = None,
    times: Annotated[float, typer.Option(help="Forward tokens of `greedy`, in those of ours.")] = 5,
    sets: Annotated[int, typer.Option(help="Random sets of a depth.", min=0)] = 3,
    unbridged: Annotated[bool, typer.Option(help="Ours without bridges too.")] = True,
    tokens: Annotated[int, typer.Option(help="Tokens to refit bridges and fit `one map` on.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Of draws and intervals.")] = 0,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Print one JSON object, and a table to stderr."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    asked_as, path_model = choice_task(task), PathModel.from_pretrained(model)
    layers = path_model.num_layers
    skips = sorted({math.ceil(share * layers) for share in SHARES})
    folder = resolve_model(model)
    maps = load_bridges(bridges, fingerprint(folder))
    plain = StaticOptions(
        out=str(out / "found_plain.json"),
        target="divergence",
        model=model,
        text=(search,),
        task=task,
        limit=search_limit,
        depth=layers - skips[-1],
        threads=threads,
        seed=seed,
    )
    bridged = replace(plain, out=str(out / "found_bridged.json"), bridges=str(bridges))
    found = {BRIDGED: found_paths(bridged)} | ({OURS: found_paths(plain)} if unbridged else {})

    pool = load_questions(search, needs="choices")
    pool.sort(key=lambda question: seeded_hash(seed, question.sha))
    evaluator = Evaluator(path_model, asked_as)
    budget = times * max(paths.forward_tokens for paths in found.values())
    steps = greedy(evaluator, pool, skips[-1], budget, out / "greedy.jsonl")
    prompts = [evaluator.prepare(question).prompt_ids for question in pool[:INFLUENCE_PROMPTS]]
    influence = block_influence(path_model, prompts)
    runs = least_changing_runs(path_model, prompts, skips)
    ways: dict[str, Way] = {}

    draw_text = text_draw(path_model, text, asked_as, tokens, seed)
    in_place = run_maps(path_model, runs, draw_text, out)
    for count, run, bridge in zip(skips, runs, in_place, strict=True):
        depth = layers - count
        path = found[BRIDGED].at_depth(depth)
        ways |= {f"{BRIDGED}|{depth}": Way(path, refitted(path_model, maps, path, draw_text, out))}
        if unbridged:
            ways |= {f"{OURS}|{depth}": Way(found[OURS].at_depth(depth))}
        ways |= {
            f"greedy|{depth}": Way(LayerPath.parse(steps[count - 1]["path"])),
            f"shortgpt|{depth}": Way(pruned_path(influence, depth)),
            f"one map|{depth}": Way(run_path(layers, run), in_place_of(run, bridge, layers)),
        }
        ways |= {f"random|{depth}|{one}": Way(random_path(layers, count, seed + one)) for one in range(sets)}
    seen = {question.sha for question in pool}
    asked = [question for question in load_questions(questions, needs="choices") if question.sha not in seen]
    stored, plainly = out / "answers.jsonl", {name: way for name, way in ways.items() if way.bridges is None}
    with_maps = {name: way for name, way in ways.items() if name not in plainly}
    score_ways(lambda: path_model, asked_as, asked[:limit], with_maps, stored)
    score_ways(lambda: path_model, asked_as, asked[:limit][:plain_limit], plainly, stored)

    systems = list(dict.fromkeys(name.partition("|")[0] for name in ways))
    mapped = {name.partition("|")[0] for name in with_maps}
    beside = {system: [BRIDGED] if system in mapped else list(found) for system in systems}
    answers = {system: load_answers(stored, [f"{one}|" for one in (system, *beside[system])]) for system in systems}
    rows = {
        str(layers - count): {
            system: compared(answers[system], system, beside[system], layers - count, seed) for system in systems
        }
        for count in skips
    }
    show(rows)
    print_json(
        {
            "benchmark": "static_rivals",
            "model": model_title(model),
            "task": task,
            "questions": {"source": Path(questions).name, "count": len(answers[BRIDGED].gold)},
            "search": {"source": Path(search).name, "questions": search_limit, "times": times},
            "forward_tokens": {name: paths.forward_tokens for name, paths in found.items()}
            | {"greedy": sum(step["forward_tokens"] for step in steps)},
            "greedy_questions_a_step": [step["questions"] for step in steps],
            "bridges": maps.digest,
            "rank": maps.info.rank if maps.info else None,
            "fitted_tokens": tokens,
            "seed": seed,
            "paths": {name: str(way.path) for name, way in ways.items()},
            "flops_ratios": {name: flops_of(path_model, folder, way) for name, way in ways.items()},
            "full_accuracy": float(answers[BRIDGED].correct[0].mean()),
            "depths": rows,
            "machine": machine(threads),
        }
    )


def show(rows: dict[str, dict[str, Any]]) -> None:
    """The table, in points and nats; what `ours+bridges` is better by has a positive sign, in nats a negative one."""
    titles = ("questions", "accuracy", "against full", "agreement", "nats", "ours: accuracy", "agreement", "nats")
    table = figure_table("layers", *titles, no_wrap=True)
    for depth, systems in rows.items():
        for system, row in systems.items():
            against = row[f"{BRIDGED} minus this"]
            table.add_row(
                f"{depth} {system}",
                str(row["questions"]),
                percent(row["accuracy"]),
                _with_interval(row["accuracy_against_full"]),
                percent(row["agreement"]),
                f"{row['divergence']:.3f}",
                *(_with_interval(against[what]) for what in ("accuracy", "agreement")),
                f"{against['divergence']['value']:+.3f}",
            )
    Console(stderr=True, highlight=False, width=170).print(table)


def _with_interval(found: dict[str, Any]) -> str:
    return f"{points(found['value'])} {interval(tuple(found['ci95']), points)}"


if __name__ == "__main__":
    run_script(main)
