"""What two searches found on the same questions, and how one compares with the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from benchmarks.lab.measurement import mean, ratio, share, target
from pathgen.paths.records import SOLVED
from pathgen.questions.question import Question

if TYPE_CHECKING:
    from benchmarks.lab.in_process import Searched
    from benchmarks.published.search import Result
    from pathgen.evaluation.evaluator import Evaluator

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
            record.question.id,
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


def figures(found: Sequence[Found], token_layers: int, seed: int) -> dict[str, Any]:
    """Rates, depths and work of one side.

    Args:
        found: its results.
        token_layers: of all of them.
        seed: of the bootstrap.
    """
    depths = [f.best_depth for f in found if f.best_depth is not None]
    margins = [f.best_margin for f in found if f.best_margin is not None]
    names = ("simulations", "layer_executions", "layers_run")
    return {
        "questions": len(found),
        "questions_per_second": len(found) / sum(f.seconds for f in found),
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
