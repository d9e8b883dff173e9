"""This project's search against the published one: same questions, same stop rule, same threads, one process.

Both take turns on blocks of questions, so that a drifting machine drifts for both. `ours` has no prior.
`calibrated` has one, measured first on a few questions, whose cost is part of its time; it searches more
questions, as a run does, and its rate is set against that of the published search on the ones it had.

    OMP_NUM_THREADS=1 python benchmarks/against_published.py --questions arc_easy.jsonl [--calibrated 500]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from measurement import machine, mean, ratio, rotated, run_script, share, target

from pathgen.console import print_json
from pathgen.placement import IN_FLIGHT
from pathgen.questions import Question, load_questions
from pathgen.records import SOLVED, question_seed
from pathgen.search_settings import SearchSettings

if TYPE_CHECKING:
    from in_process import InProcess, Searched
    from published_search import Result

    from pathgen.evaluator import Evaluator
    from pathgen.job import RunSettings
    from pathgen.model import PathModel
    from pathgen.tasks import Task

BLOCK = 8
"""Questions of the published search, and of ours, a turn."""
WARM_UP_QUESTIONS = 1
LEAST_SPEED = 5.0
MOST_EXTRA_DEPTH = 1.5


@dataclass(frozen=True, slots=True)
class Found:
    """What one search found for one question, whoever searched.

    Attributes:
        question_id: the question's id.
        seconds: wall time.
        base_correct: whether the full path is right.
        solved: whether any evaluated path is right.
        best_depth: depth of the best path; None if unsolved.
        best_margin: its margin in nats; None if unsolved.
        simulations: walks.
        layer_executions: Σ depth of the evaluated paths.
        layers_run: executions after sharing, one per row of tokens.
    """

    question_id: str
    seconds: float
    base_correct: bool
    solved: bool
    best_depth: int | None
    best_margin: float | None
    simulations: int
    layer_executions: int
    layers_run: int

    @classmethod
    def by_us(cls, searched: Searched) -> Found:
        """From a record."""
        record, solved = searched.record, searched.record.status in SOLVED
        return cls(
            record.question_id,
            searched.seconds,
            bool(record.base_correct),
            solved,
            record.best_depth if solved else None,
            record.best_margin if solved else None,
            record.simulations or 0,
            record.layer_executions or 0,
            record.layers_run or 0,
        )

    @classmethod
    def by_published(cls, result: Result, best_margin: float | None) -> Found:
        """From a result, and the margin of its best path, which that search does not keep."""
        return cls(
            result.question_id,
            result.seconds,
            result.base_correct,
            result.solved,
            result.best_depth,
            best_margin,
            result.simulations,
            result.layer_executions,
            result.layers_run,
        )


def published_search(model: str, simulations: int, seed: int) -> Callable[[Sequence[Question]], list[Result]]:
    """The published search over the untouched model: searches a block of questions, one after the other."""
    from published_search import search_question

    from pathgen.checkpoints import load_model

    hf_model, tokenizer = load_model(model)

    def search(questions: Sequence[Question]) -> list[Result]:
        rngs = [np.random.default_rng(question_seed(seed, question.id)) for question in questions]
        return [
            search_question(hf_model, tokenizer, question, simulations=simulations, rng=rng)
            for question, rng in zip(questions, rngs, strict=True)
        ]

    return search


def with_margins(results: Sequence[Result], questions: Sequence[Question], evaluator: Evaluator) -> list[Found]:
    """The published search's results with their best paths' margins, evaluated now."""
    by_id = {question.id: question for question in questions}
    found = []
    for result in results:
        margin = None
        if result.best_path is not None:
            [evaluation] = evaluator.evaluate([(evaluator.prepare(by_id[result.question_id]), result.best_path)])
            margin = evaluation.margin
        found.append(Found.by_published(result, margin))
    return found


def figures(found: Sequence[Found], token_layers: int, seed: int, *, extra_s: float = 0.0) -> dict[str, Any]:
    """Rates, depths and work of one side.

    Args:
        found: its results.
        token_layers: of all of them.
        seed: of the bootstrap.
        extra_s: time spent beside the searches (calibration).
    """
    depths = [f.best_depth for f in found if f.best_depth is not None]
    margins = [f.best_margin for f in found if f.best_margin is not None]
    names = ("simulations", "layer_executions", "layers_run")
    return {
        "questions": len(found),
        "questions_per_second": len(found) / (extra_s + sum(f.seconds for f in found)),
        "base_accuracy": share(sum(f.base_correct for f in found), len(found)),
        "solved_rate": share(sum(f.solved for f in found), len(found)),
        "mean_best_depth": mean(depths, seed) if depths else None,
        "median_best_margin": median(margins) if margins else None,
        **{f"{name}_per_question": fmean(getattr(f, name) for f in found) for name in names},
        "token_layers_per_question": token_layers / len(found),
    }


def compare(published: Sequence[Found], ours: Sequence[Found], seed: int) -> dict[str, Any]:
    """Ours against the published search on the same questions, in the same order."""
    both = [
        (a.best_depth, b.best_depth)
        for a, b in zip(published, ours, strict=True)
        if a.best_depth is not None and b.best_depth is not None
    ]
    speed = ratio([f.seconds for f in published], [f.seconds for f in ours], seed)
    gained = mean([b.solved - a.solved for a, b in zip(published, ours, strict=True)], seed)
    extra_depth = mean([b - a for a, b in both], seed) if both else None
    return {
        "speed": speed,
        "solved_rate_gained": gained,
        "extra_depth_where_both_solved": extra_depth,
        **{
            f"{name}_saved": ratio([getattr(f, name) for f in published], [getattr(f, name) for f in ours], seed)
            for name in ("layer_executions", "layers_run")
        },
        "targets": {
            "speed": target(speed["value"], least=LEAST_SPEED),
            "solved_rate_gained": target(gained["value"], least=0.0),
            "extra_depth": target(extra_depth["value"] if extra_depth else None, most=MOST_EXTRA_DEPTH),
        },
    }


def calibrated_figures(
    published: Sequence[Found], calibrated: Sequence[Found], token_layers: int, scan_seconds: Sequence[float], seed: int
) -> dict[str, Any]:
    """Figures with a prior, its cost counted in.

    Args:
        published: what the published search found, on fewer questions.
        calibrated: what ours found with the prior.
        token_layers: of these searches; the scans' are not in it.
        scan_seconds: time of each scan behind the prior.
        seed: of the bootstrap.
    """
    calibration_s = sum(scan_seconds)
    each = calibration_s / len(calibrated)
    return {
        "calibrated_on": len(scan_seconds),
        "calibration_seconds": calibration_s,
        **figures(calibrated, token_layers, seed, extra_s=calibration_s),
        "speed": ratio([f.seconds for f in published], [each + f.seconds for f in calibrated], seed, paired=False),
    }


def take_turns(
    searches: Mapping[str, Callable[[Sequence[Question]], list[Any]]], questions: Mapping[str, Sequence[Question]]
) -> dict[str, list[Any]]:
    """Each search over its own questions, in as many turns as the published one needs for blocks of BLOCK.

    Every turn takes its questions from all along the list, and the order of the searches is rotated.
    """
    turns = -(-len(questions["published"]) // BLOCK)
    results: dict[str, list[Any]] = {name: [] for name in searches}
    for turn in range(turns):
        for name in rotated(tuple(searches), turn):
            results[name] += searches[name](questions[name][turn::turns])
            print(f"turn {turn + 1}/{turns}: {name} {len(results[name])}", file=sys.stderr, flush=True)
    return results


def calibrate_search(
    model: PathModel, task: Task, run: RunSettings, questions: Sequence[Question]
) -> tuple[InProcess, list[float]]:
    """Our search with a prior measured on these questions, and what each question's scan took, in seconds."""
    from in_process import InProcess, prior_from

    from pathgen.evaluator import Evaluator

    scans = InProcess(run, Evaluator(model, task)).scan(questions)
    records = [scan.record for scan in scans]
    prior = prior_from(records, run, num_layers=model.num_layers)
    search = InProcess(replace(run, prior=prior), Evaluator(model, task), records)
    return search, [scan.seconds for scan in scans]


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Annotated[str, typer.Option(help="Alias, folder or hub id.")] = "smollm2-135m",
    limit: Annotated[int, typer.Option(min=1, help="The first N questions, for both searches.")] = 40,
    simulations: Annotated[int, typer.Option(min=1, help="Per question, for both.")] = 50,
    calibrated: Annotated[int, typer.Option(min=0, help="Search the first M with a calibrated prior too.")] = 0,
    calibrate: Annotated[int, typer.Option(min=1, help="Questions that the prior is measured on.")] = 16,
    parallel_leaves: Annotated[int, typer.Option(min=1, help="Of ours.")] = SearchSettings().parallel_leaves,
    in_flight: Annotated[int, typer.Option(min=1, help="Of ours.")] = IN_FLIGHT["cpu"],
    threads: Annotated[int, typer.Option(min=1, help="torch threads, for both.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the searches and the bootstrap.")] = 0,
) -> None:
    """Race the two searches; the last line on stdout is one JSON document."""
    import torch
    from in_process import InProcess, run_settings

    from pathgen.evaluator import Evaluator
    from pathgen.model import PathModel
    from pathgen.tasks import find_task

    torch.set_num_threads(threads)
    loaded = load_questions(questions, needs="choices", limit=max(limit, calibrated))
    path_model, task = PathModel.from_pretrained(model), find_task("arc")
    settings = SearchSettings(simulations=simulations, parallel_leaves=parallel_leaves, stop="published")
    run = run_settings(path_model, task, model, settings, seed=seed, in_flight=in_flight, threads=threads)
    published, ours = published_search(model, simulations, seed), InProcess(run, Evaluator(path_model, task))
    published(loaded[:WARM_UP_QUESTIONS])
    InProcess(run, Evaluator(path_model, task)).search(loaded[:WARM_UP_QUESTIONS])

    searches: dict[str, Callable[[Sequence[Question]], list[Any]]] = {"published": published, "ours": ours.search}
    asked = {"published": loaded[:limit], "ours": loaded[:limit]}
    if calibrated:
        with_prior, scan_seconds = calibrate_search(path_model, task, run, loaded[:calibrate])
        searches["calibrated"], asked["calibrated"] = with_prior.search, loaded[:calibrated]
    results = take_turns(searches, asked)

    theirs = with_margins(results["published"], loaded, Evaluator(path_model, task))
    own = [Found.by_us(searched) for searched in results["ours"]]
    document = {
        "benchmark": "against_published",
        "machine": machine(threads),
        "model": model,
        "source": questions,
        "simulations": simulations,
        "parallel_leaves": parallel_leaves,
        "in_flight": in_flight,
        "seed": seed,
        "num_layers": path_model.num_layers,
        "published": figures(theirs, sum(result.token_layers for result in results["published"]), seed),
        "ours": figures(own, ours.token_layers, seed),
        **compare(theirs, own, seed),
    }
    if calibrated:
        found = [Found.by_us(searched) for searched in results["calibrated"]]
        document["calibrated"] = calibrated_figures(theirs, found, with_prior.token_layers, scan_seconds, seed)
    print_json(document | {"by_question": {"published": [asdict(f) for f in theirs], "ours": [asdict(f) for f in own]}})


if __name__ == "__main__":
    run_script(main)
