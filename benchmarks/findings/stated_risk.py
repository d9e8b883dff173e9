"""Does a stated risk hold on other questions? Stored answers, split again and again in calibration and test.

    python -m benchmarks.findings.stated_risk ANSWERS.jsonl --risk 0.02 --confidence 0.95 --only "bridged|"

In each split the paths below full depth are tested on the calibration questions, the deepest first, as `router train`
does, and the last that passes is deployed. The promise is about the risk itself, not about the share seen on a finite
test half, which also differs by chance: `exceeded_on_test` may be above 1 − confidence, and the splits share questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.lab.measurement import machine, run_script, share
from benchmarks.lab.stored_answers import ALL, StoredAnswers, load_answers
from cluster.program.console import print_json
from pathgen.errors import InputError
from router.dev.risk import Outcome, StatedRisk, passing

Answers = Annotated[Path, typer.Argument(help="Stored answers (`benchmarks.lab.stored_answers`).")]
Risk = Annotated[float | None, typer.Option(help="Highest share of answers that differ from full depth's.")]
MaxLoss = Annotated[float | None, typer.Option(help="Highest loss of accuracy against full depth.")]
Confidence = Annotated[float, typer.Option(help="In the risk, on each split.")]
Splits = Annotated[int, typer.Option(help="Random splits.", min=1)]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Ways whose names begin so, beside full depth; may repeat [default: all]."),
]
Calibration = Annotated[float, typer.Option(help="Share of the questions to calibrate on.")]
Seed = Annotated[int, typer.Option(help="Of the splits.")]


def stated_risk(risk: float | None, max_loss: float | None, confidence: float) -> StatedRisk:
    """The one of both that is given."""
    if (risk is None) == (max_loss is None):
        raise InputError("give one of --risk and --max-loss")
    if risk is not None:
        return StatedRisk("disagreement", risk, confidence)
    assert max_loss is not None
    return StatedRisk("loss", max_loss, confidence)


def outcome(stated: StatedRisk, answers: StoredAnswers, path: int) -> Outcome:
    """One path against full depth."""
    worse, better = losses(stated, answers, path)
    return Outcome(int(worse.sum()), int(better.sum()), len(worse))


def losses(stated: StatedRisk, answers: StoredAnswers, path: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[Q] whether each answer is worse than full depth's, and [Q] whether it is better."""
    if stated.kind == "disagreement":
        return answers.differs[path], np.zeros_like(answers.differs[path])
    right, full = answers.correct[path], answers.correct[0]
    return full & ~right, right & ~full


def deployed(stated: StatedRisk, calibration: StoredAnswers) -> int:
    """Index of the path that the fixed-sequence test deploys; 0, full depth, if none passes."""
    held = passing(calibration.shallower, lambda path: stated.holds(outcome(stated, calibration, path)))
    return ([0, *held])[-1]


def main(
    answers: Answers,
    risk: Risk = None,
    max_loss: MaxLoss = None,
    only: Only = None,
    confidence: Confidence = 0.95,
    splits: Splits = 20,
    calibration: Calibration = 0.5,
    seed: Seed = 0,
) -> None:
    """Print one JSON object."""
    stated, stored = stated_risk(risk, max_loss, confidence), load_answers(answers, only or ALL)
    rows = []
    for tuned, test in stored.splits(splits, calibration, seed):
        path = deployed(stated, tuned)
        rows.append(
            {
                "way": stored.names[path],
                "depth": stored.paths[path].depth,
                "calibration": outcome(stated, tuned, path).observed,
                "test": outcome(stated, test, path).observed,
                "test_accuracy_gain": float(test.correct[path].mean() - test.correct[0].mean()),
            }
        )
    size = tuned.choices.shape[1]
    print_json(
        {
            "benchmark": "stated_risk",
            "answers": answers.name,
            "questions": {"calibration": size, "test": stored.choices.shape[1] - size},
            "kind": stated.kind,
            "stated": stated.stated,
            "confidence": confidence,
            "seed": seed,
            "exceeded_on_test": share(sum(row["test"] > stated.stated for row in rows), splits),
            "below_full_depth": share(sum(row["depth"] < stored.num_layers for row in rows), splits),
            "mean_depth": float(np.mean([row["depth"] for row in rows])),
            "mean_test": float(np.mean([row["test"] for row in rows])),
            "questions_needed_without_a_difference": stated.questions_needed(Outcome(0, 0, 1)),
            "splits": rows,
            "machine": machine(1),
        }
    )


if __name__ == "__main__":
    run_script(main)
