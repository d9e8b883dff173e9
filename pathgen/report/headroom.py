"""Headroom against chance: how much of what a search mends is at most more than luck.

Among many paths some lead to any answer that was nearly given, right or wrong. So the share of wrong answers that some
path mends says nothing until the placebo is taken off: the share that reaches a wrong choice which full depth
ranked like gold. What is left is an upper bound: the search was rewarded for gold's margin and went where gold was
near, while the placebo is met by the way. So an excess above 0 proves no headroom; one that is not
above 0 gives no sign of any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from .figures import interval, points

DRAWS = 2000
SEED = 0

WrongAnswer = tuple[int, tuple[int, ...], frozenset[int]]
"""A kind of question that full depth answers wrong: gold, its choices ranked at full depth, and those that some other
path reaches."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """How much of what the search mends is at most more than luck.

    All shares but `breaks` are over the questions that full depth answers wrong, and not by a tie with gold alone.

    Attributes:
        questions: that full depth answers wrong.
        gold: share for which some evaluated path reaches the right choice.
        placebo: share for which some path reaches a wrong choice that full depth ranked like gold, weighted to gold's
            ranks. A rank that only gold ever had (the second of two choices, say) has no placebo: its questions count
            for `gold` alone.
        excess: gold less placebo; an upper bound, as the search looked for gold.
        excess_ci95: its bootstrap interval over questions.
        breaks: share of right answers that some path breaks.
        stopped_early: searches that stopped at the first right path; with any, gold and placebo do not compare.
        verdict: what these allow to be said, in words; None where nothing was wrong.
    """

    questions: int
    gold: float | None
    placebo: float | None
    excess: float | None
    excess_ci95: tuple[float, float] | None
    breaks: float | None
    stopped_early: int
    verdict: str | None = None


class HeadroomTally:
    """Takes in a run's records, some at a time, and keeps counts of kinds of questions: as much for 100,000 as for 100.

    Searches that stop at the first right path give gold all the tries it needs and a placebo only those before it, so
    where any did (`early`) the two cannot be compared.
    """

    def __init__(self) -> None:
        self._wrong: Counter[WrongAnswer] = Counter()
        self._right = self._broken = self._early = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take in some records.

        Args:
            rows: one row a question, with `status`, `stop_reason`, `gold`, `base_correct` and `evaluations`, full
                depth's first.
        """
        self._early += rows.filter(pl.col("stop_reason") == "early").height
        scores = pl.element().struct.field("choice_scores")
        scored = (
            rows.filter(pl.col("status") != "failed", pl.col("gold").is_not_null())
            .select(
                "gold", "base_correct", scores=pl.col("evaluations").list.eval(scores.filter(scores.list.len() > 0))
            )
            .filter(pl.col("scores").list.len() > 0)
            .select(
                "gold",
                "base_correct",
                full=pl.col("scores").list.first(),
                reached=pl.col("scores").list.slice(1).list.eval(pl.element().list.arg_max()),
            )
        )
        for gold, is_right, full, others in scored.iter_rows():
            reached = frozenset(others)
            ranking = tuple(np.argsort(-np.array(full), kind="stable").tolist())
            if is_right:
                self._right += 1
                self._broken += bool(reached - {gold})
            elif ranking[0] != gold:  # else gold ties with another: there is nothing to mend
                self._wrong[gold, ranking, reached] += 1

    def result(self) -> Headroom | None:
        """The headroom of all records taken in; None for records without choice scores."""
        questions = self._wrong.total()
        if not questions and not self._right:
            return None
        mended = sum(count for (gold, _, reached), count in self._wrong.items() if gold in reached)
        ranked, counts = _ranked(self._wrong), np.array(list(self._wrong.values()), dtype=np.int64)
        (placebo,), (excess,) = _placebo_and_excess(*(counts[None] @ part for part in ranked))
        has_placebo = bool(np.isfinite(excess))
        found = Headroom(
            questions,
            gold=mended / questions if questions else None,
            placebo=float(placebo) if has_placebo else None,
            excess=float(excess) if has_placebo else None,
            excess_ci95=_interval(ranked, counts) if has_placebo else None,
            breaks=self._broken / self._right if self._right else None,
            stopped_early=self._early,
        )
        return replace(found, verdict=_verdict(found))


def headroom(rows: pl.DataFrame) -> Headroom | None:
    """The headroom of a run's records; None without choice scores.

    Args:
        rows: as `HeadroomTally.add` takes them.
    """
    tally = HeadroomTally()
    tally.add(rows)
    return tally.result()


def _ranked(kinds: Mapping[WrongAnswer, int]) -> np.ndarray:
    """Where gold and the placebos stand, and which of them some path reaches.

    Returns:
        [4, Q, R] for Q kinds of questions and R ranks, counted from 0 after full depth's own answer: 1 at gold's
        rank; 1 there if some path reaches gold; 1 at the rank of each wrong choice; 1 there if some path reaches it.
    """
    width = max((len(ranking) - 1 for _, ranking, _ in kinds), default=0)
    ranked = np.zeros((4, len(kinds), width), dtype=np.int64)
    for row, (right, ranking, reached) in enumerate(kinds):
        for rank, choice in enumerate(ranking[1:]):
            part = 0 if choice == right else 2
            ranked[part, row, rank] = 1
            ranked[part + 1, row, rank] = choice in reached
    return ranked


def _placebo_and_excess(
    gold: np.ndarray, gold_hits: np.ndarray, placebos: np.ndarray, placebo_hits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both weighted to gold's ranks, over the questions whose rank has a placebo.

    Args are sums of `_ranked` over questions, each [draws, R]. Returns [draws] each, NaN where no rank of gold's has
    a placebo.
    """
    has_placebo = placebos > 0
    expected = gold * placebo_hits / np.maximum(placebos, 1)  # 0 where there is no placebo
    counted = np.where(has_placebo, gold, 0).sum(axis=1).astype(float)
    counted[counted == 0] = np.nan
    reached = np.where(has_placebo, gold_hits, 0).sum(axis=1)
    placebo = expected.sum(axis=1) / counted
    return placebo, reached / counted - placebo


def _interval(ranked: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """95 % of the excess: percentiles of a bootstrap over questions, the placebo drawn anew with them.

    Questions of one pattern are exchangeable, so their counts are drawn rather than the questions. None where no
    draw has a placebo.

    Args:
        ranked: as `_ranked` returns it.
        counts: [Q] questions of each kind.
    """
    patterns, kinds = np.unique(np.hstack(list(ranked)), axis=0, return_inverse=True)
    weights = np.bincount(kinds, weights=counts)
    total = counts.sum()
    drawn = np.random.default_rng(SEED).multinomial(total, weights / total, size=DRAWS)  # [draws, patterns]
    _, excess = _placebo_and_excess(*np.split(drawn @ patterns, 4, axis=1))
    excess = excess[np.isfinite(excess)]
    if not excess.size:
        return None
    low, high = np.percentile(excess, [2.5, 97.5])
    return float(low), float(high)


def _verdict(found: Headroom) -> str | None:
    if not found.questions:
        return None
    mended = f"some path mends {found.gold:.1%} of the wrong answers"
    if found.excess is None or found.excess_ci95 is None:
        return f"{mended}, and no wrong choice ever had gold's rank: nothing tells how much of that is chance"
    compared = (
        f"{mended}, and {found.placebo:.1%} reach an equally likely wrong answer: "
        f"excess {points(found.excess)} points {interval(found.excess_ci95, points)}: "
    )
    if found.stopped_early:
        return f"{compared}not comparable, {found.stopped_early} searches stopped early, at the first right path"
    if found.excess_ci95[0] <= 0:
        return f"{compared}not above chance, though the search looked for gold"
    return f"{compared}an upper bound, no proof of more than chance: the search looked for gold alone"
