"""How fast the engine scores paths: one at a time as a stock forward does, packed, batched, and as a search asks.

Per question 16 random paths of 1 to 4 edits, the same for all ways of running them, whose scores must agree:

- `stock`: the unmodified model, its list of layers rebuilt along each path, the choices as rows;
- `plain`: the engine, one path at a time, the choices as rows;
- `packed`: one path at a time, the choices packed into one row;
- `batched`: all 16 at once, packed, prefixes shared;
- `interleaved`: a few paths at a time over a few questions in flight, with kept states, as searches ask.

`--part search` tells instead where the model time of real searches goes, and how near their layers are to plain matrix
products of the same shapes; `--part sweep` runs `interleaved` alone, over many settings of the two.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.engine --questions arc_easy.jsonl [--part ways|search|sweep]
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from benchmarks.lab.measurement import alternate, machine, mean, ratio, run_script, target
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.actors.placement import IN_FLIGHT
from pathgen.errors import PathgenError
from pathgen.paths.records import seeded_hash
from pathgen.questions.loading import load_questions
from pathgen.search.settings import SearchSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.speed.scoring_ways import Asked, Outcome, Way
    from pathgen.engine.path_model import PathModel
    from pathgen.questions.question import Question

PATHS = 16
MAX_GAP_NATS = 1e-3
"""Largest accepted gap between the scores of two ways of running the same path."""
WARM_UP_QUESTIONS = 1
BLOCK = 12
"""Questions a way runs before it is the next one's turn."""
SWEEP_LEAVES = (1, 2, 4, 8, 16)
SWEEP_IN_FLIGHT = (1, 2, 4, 8)


def largest_gap(results: dict[str, list[list[Outcome]]]) -> float:
    """Largest distance in nats between any score of any run and the first way's first."""
    first = next(iter(results.values()))[0]
    reference = [scores for block in first for scores in block.scores]
    gap = 0.0
    for repeats in results.values():
        for blocks in repeats:
            found = [scores for block in blocks for scores in block.scores]
            gap = max(gap, *(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(found, reference, strict=True)))
    return gap


def seconds_by_question(repeats: list[list[Outcome]]) -> np.ndarray:
    """[questions] median over the repeats, which one disturbed turn does not move."""
    return np.median([[s for block in blocks for s in block.seconds] for blocks in repeats], axis=0)


def figures(repeats: list[list[Outcome]], seed: int) -> dict[str, Any]:
    """Time and work per question of one way."""
    seconds = seconds_by_question(repeats)
    return {
        "seconds_per_question": mean(seconds, seed),
        "layers_run_per_question": sum(block.layers_run for block in repeats[0]) / len(seconds),
        "token_layers_per_question": sum(block.token_layers for block in repeats[0]) / len(seconds),
    }


def compare(results: dict[str, list[list[Outcome]]], seed: int) -> dict[str, Any]:
    """Figures of every way and how many times faster the batched one is than the others."""
    seconds = {name: seconds_by_question(repeats) for name, repeats in results.items()}
    speed = {name: ratio(found, seconds["batched"], seed) for name, found in seconds.items() if name != "batched"}
    return {
        "ways": {name: figures(repeats, seed) for name, repeats in results.items()},
        "seconds_over_batched": speed,
        "targets": {
            "plain_over_batched": target(speed["plain"]["value"], least=4),
            "packed_over_batched": target(speed["packed"]["value"], least=2.5),
        },
    }


def compare_sweep(results: dict[str, list[list[Outcome]]], default: str, seed: int) -> dict[str, Any]:
    """Figures of every setting, and its time over that of the default one."""
    base = seconds_by_question(results[default])
    settings = {
        name: figures(repeats, seed) | {"seconds_over_default": ratio(seconds_by_question(repeats), base, seed)}
        for name, repeats in results.items()
    }
    fastest = min(settings, key=lambda name: settings[name]["seconds_per_question"]["value"])
    return {"settings": settings, "default": default, "fastest": fastest}


def compare_ways(
    path_model: PathModel, asked: Sequence[Asked], setting: tuple[int, int], repeats: int, seed: int, *, sweep: bool
) -> dict[str, Any]:
    """Run the rival ways, or the sweep, on all questions."""
    ways = sweep_ways(path_model, setting) if sweep else rival_ways(path_model, setting)
    alternate(ways, asked[:WARM_UP_QUESTIONS], block=WARM_UP_QUESTIONS, repeats=1)
    # A sweep takes all questions at once, so that a batch runs dry once and not at the end of each block.
    results = alternate(ways, asked, block=len(asked) if sweep else BLOCK, repeats=repeats)
    gap = largest_gap(results)
    found = compare_sweep(results, setting_name(*setting), seed) if sweep else compare(results, seed)
    return {"largest_score_gap_nats": gap, "interleaved": setting_name(*setting), **found}


def model_time(
    path_model: PathModel, model: str, task: str, questions: Sequence[Question], setting: tuple[int, int], seed: int
) -> dict[str, Any]:
    """Time at full depth and in searches of these questions, by step."""
    import torch

    from benchmarks.lab.in_process import run_settings
    from benchmarks.speed.model_time import full_depth, searched
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task

    found = find_task(task)
    search, threads = SearchSettings(parallel_leaves=setting[0]), torch.get_num_threads()
    run = run_settings(path_model, found, model, search, seed=seed, in_flight=setting[1], threads=threads)
    at_full_depth = full_depth(Evaluator(path_model, found), questions)
    return {"full_depth": at_full_depth, "search": searched(run, Evaluator(path_model, found), questions)}


def rival_ways(model: PathModel, setting: tuple[int, int]) -> dict[str, Way]:
    """The ways that are compared; `setting` is (parallel leaves, in flight) of the interleaved one."""
    from benchmarks.speed.scoring_ways import engine_calls, interleaved, plain_evaluator, stock
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task

    task = find_task("arc")
    nothing_kept = Evaluator(model, task, keep_bytes=0)
    return {
        "stock": stock(model),
        "plain": engine_calls(plain_evaluator(model, task, keep_bytes=0), 1),
        "packed": engine_calls(nothing_kept, 1),
        "batched": engine_calls(nothing_kept, PATHS),
        "interleaved": interleaved(Evaluator(model, task), *setting),
    }


def sweep_ways(model: PathModel, default: tuple[int, int]) -> dict[str, Way]:
    """The interleaved way under every setting of the sweep, and under the default one."""
    from benchmarks.speed.scoring_ways import interleaved
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task

    evaluator = Evaluator(model, find_task("arc"))
    settings = {*product(SWEEP_LEAVES, SWEEP_IN_FLIGHT), default}
    return {setting_name(*setting): interleaved(evaluator, *setting) for setting in sorted(settings)}


def setting_name(parallel_leaves: int, in_flight: int) -> str:
    """Key of a setting in the sweep's JSON."""
    return f"{parallel_leaves} leaves, {in_flight} in flight"


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1, help="Only the first N questions.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each way on each question.")] = 2,
    parallel_leaves: Annotated[int, typer.Option(min=1, help="Of `interleaved`.")] = SearchSettings().parallel_leaves,
    in_flight: Annotated[int, typer.Option(min=1, help="Of `interleaved`.")] = IN_FLIGHT["cpu"],
    part: Annotated[Literal["ways", "search", "sweep"], typer.Option(help="What is measured.")] = "ways",
    task: Annotated[str, typer.Option(help="`arc` or `arc-letter`, for `search`.")] = "arc",
    dtype: Annotated[str, typer.Option(help="Of the model's weights; `ways` and `sweep` need float32.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, help="torch threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the paths and the bootstrap.")] = 0,
) -> None:
    """Time the ways of scoring paths; the last line on stdout is one JSON document. Exit code 1: scores differ."""
    import torch

    from benchmarks.speed.scoring_ways import Asked, random_paths
    from pathgen.engine.path_model import PathModel

    torch.set_num_threads(threads)
    loaded = load_questions(questions, needs="choices", limit=limit)
    path_model = PathModel.from_pretrained(model, dtype=dtype)
    setting = (parallel_leaves, in_flight)
    if part == "search":
        found = model_time(path_model, model, task, loaded, setting, seed)
    else:
        rngs = [np.random.default_rng(seeded_hash(seed, question.id)) for question in loaded]
        asked = [
            Asked(question, random_paths(path_model.num_layers, PATHS, rng))
            for question, rng in zip(loaded, rngs, strict=True)
        ]
        found = compare_ways(path_model, asked, setting, repeats, seed, sweep=part == "sweep")
    origin = {"benchmark": "engine", "machine": machine(threads), "model": model, "dtype": dtype, "source": questions}
    print_json({**origin, "part": part, "questions": len(loaded), "repeats": repeats, "seed": seed, **found})
    if not (gap := found.get("largest_score_gap_nats", 0.0)) <= MAX_GAP_NATS:
        raise PathgenError(f"two ways of running a path differ by {gap:.2g} nats; at most {MAX_GAP_NATS:g} is right")


if __name__ == "__main__":
    run_script(main)
