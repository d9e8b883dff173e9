"""The shallowest setting that holds a stated risk on held-out questions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pathgen.paths.layer_path import LayerPath

from .dev_set import DevSet
from .risk import Outcome, RiskKind, StatedRisk, passing

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def candidate_of(setting: T, kind: RiskKind, dev: DevSet, paths: Sequence[LayerPath]) -> Candidate[T]:
    """A setting with the path of each question."""
    return Candidate(setting, outcome_of(kind, dev, paths), float(np.mean([path.depth for path in paths])))


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T_co]):
    """A setting that may be deployed, what it does on the held-out questions, and its mean depth there."""

    setting: T_co
    outcome: Outcome
    depth: float


@dataclass(frozen=True, slots=True)
class SettingFigures:
    """A setting on the held-out questions; `questions_needed` is about how many it would pass with, inf if never."""

    depth: float
    observed: float
    p_value: float
    questions_needed: float

    @classmethod
    def of(cls, stated: StatedRisk, candidate: Candidate[object]) -> SettingFigures:
        """The figures of a candidate under the stated risk."""
        outcome = candidate.outcome
        needed = stated.questions_needed(outcome)
        return cls(candidate.depth, outcome.observed, stated.p_value(outcome), needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFigures:
    """A stated risk, and what the deployed setting shows on the held-out questions.

    Attributes:
        kind: with `stated` and `confidence` as in `StatedRisk`.
        observed: the risk on these questions; 0 at full depth.
        questions: number of held-out questions.
        depth: mean layer executions on them, of `num_layers` at full depth.
        p_value: None if full depth is deployed, which is not tested.
        failed: the setting at which the test stopped; None if all passed, or none was there to test.
    """

    kind: RiskKind
    stated: float
    confidence: float
    observed: float
    questions: int
    depth: float
    num_layers: int
    p_value: float | None
    failed: SettingFigures | None


def hold_risk(
    stated: StatedRisk, questions: int, num_layers: int, candidates: Iterable[Candidate[T]]
) -> tuple[T | None, RiskFigures]:
    """The last setting before the first that does not hold the risk, and its figures; None for full depth.

    Args:
        stated: the risk.
        questions: number of them; nothing was chosen on them: not the settings, and not their order.
        num_layers: of the model.
        candidates: the safest first. They are drawn one by one.
    """
    failed: list[Candidate[T]] = []

    def holds(candidate: Candidate[T]) -> bool:
        if stated.holds(candidate.outcome):
            return True
        failed.append(candidate)
        return False

    passed = list(passing(candidates, holds)) if questions else []
    last = passed[-1] if passed else None
    figures = RiskFigures(
        kind=stated.kind,
        stated=stated.stated,
        confidence=stated.confidence,
        observed=last.outcome.observed if last else 0.0,
        questions=questions,
        depth=last.depth if last else float(num_layers),
        num_layers=num_layers,
        p_value=stated.p_value(last.outcome) if last else None,
        failed=SettingFigures.of(stated, failed[0]) if failed else None,
    )
    return None if last is None else last.setting, figures


def outcome_of(kind: RiskKind, dev: DevSet, paths: Sequence[LayerPath]) -> Outcome:
    """The answers along these paths, one per question, against those at full depth."""
    worse, better = losses_of(kind, dev, paths)
    return Outcome(int(worse.sum()), int(better.sum()), len(paths))


def losses_of(kind: RiskKind, dev: DevSet, paths: Sequence[LayerPath]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[N] whether each answer is worse than full depth's, and [N] whether it is better, as `Outcome` counts them."""
    if kind == "disagreement":
        differs = ~dev.agreement(paths)
        return differs, np.zeros_like(differs)
    right, full = dev.run(paths).correct, dev.full
    return full & ~right, right & ~full


def risk_text(figures: RiskFigures) -> str:
    """The statement in one sentence; without a shallower setting that holds, what is missing."""
    bound, observed = {
        "disagreement": (f"answers differ from full depth's on at most {_percent(figures.stated)}", "differs on"),
        "loss": (f"accuracy is at most {_percent(figures.stated)} below full depth's", "loses"),
    }[figures.kind]
    bound += f", with {100 * figures.confidence:g} % confidence"
    on = f"{figures.questions:,} held-out questions"
    if figures.p_value is not None:
        depth = f"depth {figures.depth:.4g} of {figures.num_layers}"
        return f"{bound} ({_percent(figures.observed)} on {on}, at {depth})"
    failed, fewest = figures.failed, _fewest(figures)
    if failed is None:
        lacking = "shallower path was found" if figures.questions else "question is held out from the choice"
        needed = f"it takes at least {fewest:,} questions to show: {bound}"
        return f"full depth is deployed, because no {lacking}; {needed}"
    enough = f"about {failed.questions_needed:,} questions are needed"
    if failed.questions_needed == math.inf:
        enough = f"no number of questions is enough, and without a difference {fewest:,} are needed"
    tried = f"{failed.depth:.4g} of {figures.num_layers} layers, {observed} {_percent(failed.observed)}"
    return (
        f"full depth is deployed, because on {on} nothing shallower shows: {bound}; "
        f"the deepest tried, {tried}: at that rate {enough}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _fewest(figures: RiskFigures) -> float:
    """The questions needed if no answer differs."""
    return StatedRisk(figures.kind, figures.stated, figures.confidence).questions_needed(Outcome(0, 0, 1))
