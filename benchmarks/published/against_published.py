"""This project's search against the published one: same questions, same stop rule, same threads, one process.

Both take turns on blocks of questions, so that a drifting machine drifts for both.

    OMP_NUM_THREADS=1 python -m benchmarks.published.against_published --questions arc_easy.jsonl
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from benchmarks.lab.measurement import machine, rotated, run_script
from benchmarks.lab.models import Model
from benchmarks.published.found import Found, compare, figures, with_margins
from cluster.program.console import print_json
from pathgen.actors.placement import IN_FLIGHT
from pathgen.paths.records import seeded_hash
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.search.settings import SearchSettings

if TYPE_CHECKING:
    from benchmarks.published.search import Result

BLOCK = 20
"""Questions of the published search, and of ours, a turn: enough that ours fills its batch, as in a run it does."""
WARM_UP_QUESTIONS = 1


def published_search(
    model: str, task: str, dtype: str, simulations: int, seed: int, *, one_row: bool
) -> Callable[[Sequence[Question]], list[Result]]:
    """The published search over the untouched model: searches a block of questions, one after the other."""
    from benchmarks.published.search import search_question
    from pathgen.models.loading import load_model

    hf_model, tokenizer = load_model(model, dtype=dtype)

    def search(questions: Sequence[Question]) -> list[Result]:
        rngs = [np.random.default_rng(seeded_hash(seed, question.id)) for question in questions]
        return [
            search_question(hf_model, tokenizer, question, simulations=simulations, rng=rng, task=task, one_row=one_row)
            for question, rng in zip(questions, rngs, strict=True)
        ]

    return search


def take_turns(
    searches: Mapping[str, Callable[[Sequence[Question]], list[Any]]],
    questions: Sequence[Question],
    block: int,
) -> dict[str, list[Any]]:
    """Each search over the questions, in turns of at most `block`.

    Every turn takes its questions from all along the list, and the order of the searches is rotated.
    """
    turns = -(-len(questions) // block)
    results: dict[str, list[Any]] = {name: [] for name in searches}
    for turn in range(turns):
        for name in rotated(tuple(searches), turn):
            results[name] += searches[name](questions[turn::turns])
            print(f"turn {turn + 1}/{turns}: {name} {len(results[name])}", file=sys.stderr, flush=True)
    return results


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Model = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1, help="The first N questions, for both searches.")] = 40,
    task: Annotated[str, typer.Option("--task", help="`arc` or `arc-letter`.")] = "arc",
    dtype: Annotated[str, typer.Option(help="Of both models' weights.")] = "float32",
    one_row: Annotated[
        bool, typer.Option("--one-row/--choices-as-rows", help="How the published search reads letters.")
    ] = True,
    block: Annotated[int, typer.Option(min=1, help="Questions of a search in one turn.")] = BLOCK,
    simulations: Annotated[int, typer.Option(min=1, help="Per question, for both.")] = 50,
    parallel_leaves: Annotated[int, typer.Option(min=1, help="Of ours.")] = SearchSettings().parallel_leaves,
    in_flight: Annotated[int, typer.Option(min=1, help="Of ours.")] = IN_FLIGHT["cpu"],
    threads: Annotated[int, typer.Option(min=1, help="torch threads, for both.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the searches and the bootstrap.")] = 0,
) -> None:
    """Race the two searches; the last line on stdout is one JSON document."""
    import torch

    from benchmarks.lab.in_process import InProcess, run_settings
    from pathgen.engine.path_model import PathModel
    from pathgen.evaluation.evaluator import Evaluator
    from pathgen.questions.tasks import find_task

    torch.set_num_threads(threads)
    loaded = load_questions(questions, needs="choices", limit=limit)
    path_model, asked_as = PathModel.from_pretrained(model, dtype=dtype), find_task(task)
    settings = SearchSettings(simulations=simulations, parallel_leaves=parallel_leaves, stop="published")
    run = run_settings(path_model, asked_as, model, settings, seed=seed, in_flight=in_flight, threads=threads)
    published = published_search(model, task, dtype, simulations, seed, one_row=one_row)
    ours = InProcess(run, Evaluator(path_model, asked_as))
    published(loaded[:WARM_UP_QUESTIONS])
    InProcess(run, Evaluator(path_model, asked_as)).search(loaded[:WARM_UP_QUESTIONS])

    searches: dict[str, Callable[[Sequence[Question]], list[Any]]] = {"published": published, "ours": ours.search}
    results = take_turns(searches, loaded, block)

    theirs = with_margins(results["published"], loaded, Evaluator(path_model, asked_as))
    own = [Found.by_us(searched) for searched in results["ours"]]
    origin = {"benchmark": "against_published", "machine": machine(threads), "model": model, "source": questions}
    origin |= {"task": task, "dtype": dtype, "published_reads_letters_off_one_row": one_row}
    shown = {"simulations": simulations, "parallel_leaves": parallel_leaves, "in_flight": in_flight, "seed": seed}
    document = {
        **(origin | shown),
        "num_layers": path_model.num_layers,
        "published": figures(theirs, sum(result.token_layers for result in results["published"]), seed),
        "ours": figures(own, ours.token_layers, seed),
        **compare(theirs, own, seed),
    }
    print_json(document | {"by_question": {"published": [asdict(f) for f in theirs], "ours": [asdict(f) for f in own]}})


if __name__ == "__main__":
    run_script(main)
