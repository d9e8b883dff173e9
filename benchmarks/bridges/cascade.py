"""A cheap path first, full depth where it is unsure: does that beat one static path at the same risk, or depth?

    python -m benchmarks.bridges.cascade ANSWERS.jsonl --risk 0.02 --confidence 0.95 --only "bridged|"

From stored answers. A cascade takes the cheap path's answer if its two best choices are at least a threshold apart, in
nats, else full depth's, as `router train --method cascade` does with the two likeliest tokens after the prompt.
Thresholds are tested on calibration questions from the largest on; figures are of the test half, means over the splits.
`chosen` takes the cascade of lowest calibration cost, each tested at a Bonferroni share of the level. Against it: the
static path that passes the same risk; and, at the cascade's own mean depth, the static path, or the draw between two
for each question, that agrees best on the calibration questions. `kept_beyond_static` is the difference from these on
both halves of the first split, each with what the other half chose, with an interval over all questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.findings.stated_risk import (
    Answers,
    Calibration,
    Confidence,
    MaxLoss,
    Only,
    Risk,
    Seed,
    Splits,
    deployed,
    losses,
    stated_risk,
)
from benchmarks.lab.measurement import machine, mean, run_script, share
from benchmarks.lab.stored_answers import ALL, StoredAnswers, load_answers
from cluster.program.console import print_json
from pathgen.engine.policies import Cascade
from pathgen.errors import InputError
from pathgen.report.figures import figure_table, interval, percent, points
from router.dev.cascade_choice import CheapAnswers
from router.dev.risk import StatedRisk
from router.dev.risk_control import hold_risk

TABLE_WIDTH = 200


@dataclass(frozen=True)
class StoredCascade:
    """The cheap path of an index, and the gap from which on its answer stands; None is full depth alone."""

    path: int
    threshold: float | None

    def stands(self, answers: StoredAnswers) -> NDArray[np.bool_]:
        """[Q] where the cheap path's answer is taken."""
        if self.threshold is None:
            return np.zeros(answers.choices.shape[1], dtype=bool)
        return answers.gaps[self.path] >= self.threshold

    def answers(self, answers: StoredAnswers) -> StoredAnswers:
        """Full depth, and the cascade as the second way."""
        stands = self.stands(answers)
        choices, gaps, divergences = (
            np.stack([of[0], np.where(stands, of[self.path], of[0])])
            for of in (answers.choices, answers.gaps, answers.divergences)
        )
        names, paths = (answers.names[0], "cascade"), answers.paths[:1] * 2
        return StoredAnswers(names, paths, choices, answers.gold, gaps, divergences)

    def mean_depth(self, answers: StoredAnswers) -> float:
        """Layer executions per question."""
        if self.threshold is None:
            return answers.num_layers
        cascade, full = Cascade(answers.paths[self.path], self.threshold), answers.paths[0]
        return float(np.where(self.stands(answers), cascade.path.depth, cascade.depth(full)).mean())


def calibrated(stated: StatedRisk, calibration: StoredAnswers, path: int) -> StoredCascade:
    """The cascade of the smallest threshold before the first that fails."""
    cheap = CheapAnswers(calibration.paths[path], calibration.gaps[path], *losses(stated, calibration, path))
    cascade, _ = hold_risk(stated, len(cheap.gaps), calibration.num_layers, cheap.cascades())
    return StoredCascade(path, None if cascade is None else cascade.gap)


def lottery(calibration: StoredAnswers, depth: float) -> list[tuple[int, float]]:
    """Static ways and their shares of the questions: of at most this mean depth, those that differ least.

    One way, or two between which each question is drawn; the mean depth of two is exactly the one that is given.
    """
    differs, depths = calibration.differs.mean(axis=1), [path.depth for path in calibration.paths]
    within = [index for index, own in enumerate(depths) if own <= depth]
    found = [[(index, 1.0)] for index in within]
    for low in within:
        for high in (index for index, own in enumerate(depths) if own > depth):
            upper = (depth - depths[low]) / (depths[high] - depths[low])
            found.append([(low, 1 - upper), (high, upper)])
    return min(found, key=lambda shares: sum(part * differs[index] for index, part in shares))


def least_deep(stated: StatedRisk, calibration: StoredAnswers) -> StoredCascade:
    """The cascade of lowest calibration cost of all cheap paths, each at an equal share of the level (Bonferroni)."""
    cheap = calibration.shallower
    shared = StatedRisk(stated.kind, stated.stated, 1 - stated.alpha / len(cheap))
    found = [calibrated(shared, calibration, path) for path in cheap]
    return min(found, key=lambda cascade: cascade.mean_depth(calibration))


def kept_beyond_static(cascade: StoredCascade, calibration: StoredAnswers, test: StoredAnswers) -> NDArray[np.float64]:
    """[Q] full depth's answers kept beyond static paths of the cascade's mean depth, on the test questions."""
    kept = 1.0 - cascade.answers(test).differs[1]
    shares = lottery(calibration, cascade.mean_depth(test))
    return kept - sum(part * (1.0 - test.differs[way]) for way, part in shares)


def row_of(cascade: StoredCascade, calibration: StoredAnswers, test: StoredAnswers) -> dict[str, float]:
    """A cascade on the test questions, beside static paths of its mean depth."""
    routed, depth = cascade.answers(test), cascade.mean_depth(test)
    shares = lottery(calibration, depth)

    def drawn(values: Sequence[float]) -> float:
        return sum(part * float(values[index]) for index, part in shares)

    gains = test.correct.mean(axis=1) - test.correct[0].mean()
    return {
        "mean_depth": depth,
        "falls_back": float(1 - cascade.stands(test).mean()),
        "agreement": float(1 - routed.differs[1].mean()),
        "accuracy_gain": float(routed.correct[1].mean() - test.correct[0].mean()),
        "static_depth": drawn([path.depth for path in test.paths]),
        "static_agreement": drawn(1 - test.differs.mean(axis=1)),
        "static_accuracy_gain": drawn(gains),
    }


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
    """Print one JSON object, and a table to stderr."""
    stated, stored = stated_risk(risk, max_loss, confidence), load_answers(answers, only or ALL)
    if not stored.shallower:
        raise InputError(f"{answers}: no way is below full depth")
    rows: dict[str, list[dict[str, float]]] = {}
    beyond: dict[str, Any] = {}
    for tuned, test in stored.splits(splits, calibration, seed):
        for path in stored.shallower:
            rows.setdefault(stored.names[path], []).append(row_of(calibrated(stated, tuned, path), tuned, test))
        chosen = least_deep(stated, tuned)
        rows.setdefault("chosen", []).append(row_of(chosen, tuned, test))
        if not beyond:
            halves = (chosen, tuned, test), (least_deep(stated, test), test, tuned)
            beyond = mean(np.concatenate([kept_beyond_static(*half) for half in halves]), seed)
        static = StoredCascade(deployed(stated, tuned), 0.0)
        rows.setdefault("static at this risk", []).append(row_of(static, tuned, test))
    means: dict[str, dict[str, Any]] = {
        name: {key: float(np.mean([row[key] for row in of])) for key in of[0]} for name, of in rows.items()
    }
    risks = [1 - row["agreement"] if stated.kind == "disagreement" else -row["accuracy_gain"] for row in rows["chosen"]]
    means["chosen"] |= {
        "kept_beyond_static": beyond,
        "exceeded_on_test": share(sum(risk > stated.stated for risk in risks), splits),
    }
    titles = (
        "mean depth",
        "falls back",
        "agreement",
        "accuracy",
        "static depth",
        "its agreement",
        "its accuracy",
        "first split, both halves: more kept",
    )
    table = figure_table("cheap path", *titles, no_wrap=True)
    for name, row in means.items():
        table.add_row(name, *_cells(row))
    Console(stderr=True, highlight=False, width=TABLE_WIDTH).print(table)
    print_json(
        {
            "benchmark": "cascade",
            "answers": answers.name,
            "questions": stored.choices.shape[1],
            "kind": stated.kind,
            "stated": stated.stated,
            "confidence": confidence,
            "splits": splits,
            "seed": seed,
            "rows": means,
            "machine": machine(1),
        }
    )


def _cells(row: dict[str, Any]) -> list[str]:
    gain = row.get("kept_beyond_static")
    return [
        f"{row['mean_depth']:.2f}",
        percent(row["falls_back"]),
        percent(row["agreement"]),
        points(row["accuracy_gain"]),
        f"{row['static_depth']:.2f}",
        percent(row["static_agreement"]),
        points(row["static_accuracy_gain"]),
        f"{points(gain['value'])} {interval(gain['ci95'], points)}" if gain else "",
    ]


if __name__ == "__main__":
    run_script(main)
