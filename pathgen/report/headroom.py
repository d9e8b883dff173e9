"""Headroom against chance: an upper bound of the share of wrong answers that a search corrects beyond luck.

Among many paths, some reach any answer that was nearly given, right or wrong. So the share of wrong answers that some
path corrects means little until the placebo is subtracted: the share that reaches a wrong choice which full depth
ranked like gold. The rest is an upper bound, because the search was rewarded for gold's margin and never looked for
the placebo. An excess above 0 does not prove headroom; an excess that is not above 0 shows none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from .figures import count_text, interval, points

DRAWS = 2000
SEED = 0
FEWEST = 20
"""Wrong answers from which on the excess has an interval: draws of fewer are too much alike."""

WrongAnswer = tuple[int, tuple[int, ...], frozenset[int]]
"""A question that full depth answers wrong: gold, the choices ranked at full depth, those that other paths reach."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """Shares over the questions that full depth answers wrong, ties with gold excluded; `breaks`: over the right ones.

    Attributes:
        gold: share with a path that reaches the right choice.
        placebo: share with a path that reaches a wrong choice that full depth ranked like gold, weighted to gold's
            ranks. A rank that only gold ever had (for example the second of two choices) has no placebo: its questions
            count for `gold` alone.
        excess: gold minus placebo; an upper bound, because the search looked for gold.
        excess_ci95: its bootstrap interval over questions; None if fewer than FEWEST are wrong.
        breaks: share of right answers that some path breaks.
        stopped_early: searches that stopped at the first right path; if there are any, gold and placebo are not
            comparable.
    """

    DERIVED = ("verdict",)

    questions: int
    gold: float | None
    placebo: float | None
    excess: float | None
    excess_ci95: tuple[float, float] | None
    breaks: float | None
    stopped_early: int

    @property
    def verdict(self) -> str | None:
        """The conclusion in one sentence; None if no question was wrong."""
        if not self.questions:
            return None
        if self.excess is None:
            return "how much of that is luck is unknown: no wrong choice ever had the right one's rank"
        if self.stopped_early:
            return (
                f"the two are not comparable: {count_text(self.stopped_early, 'search')} stopped early, at the first "
                "right path"
            )
        if self.excess_ci95 is None:
            return f"too few to tell the two apart: at least {FEWEST} wrong answers are needed"
        difference = f"{points(self.excess)} points {interval(self.excess_ci95, points)}"
        if self.excess_ci95[0] <= 0:
            return f"the difference, {difference}, is not above chance: it shows nothing for a router to gain"
        return (
            f"the difference, {difference}, is the most a router could gain on them, and may still be luck: the search "
            "looked for the right answer alone"
        )


class HeadroomTally:
    """Counts of kinds of questions, added a batch of records at a time, in memory that does not grow with the run.

    A search that stops at the first right path gives gold all the tries it needs, but the placebo only the tries
    before that path. So gold and placebo are not comparable if any search stopped early.
    """

    def __init__(self) -> None:
        self._wrong: Counter[WrongAnswer] = Counter()
        self._right = self._broken = self._early = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows with `status`, `stop_reason`, `gold`, `base_correct` and `evaluations`, the full path's first."""
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
            elif ranking[0] != gold:  # else gold ties with another choice: nothing to correct
                self._wrong[gold, ranking, reached] += 1

    def result(self) -> Headroom | None:
        """The headroom of all records added; None for records without choice scores."""
        questions = self._wrong.total()
        if not questions and not self._right:
            return None
        corrected = sum(count for (gold, _, reached), count in self._wrong.items() if gold in reached)
        ranked, counts = _ranked(self._wrong), np.array(list(self._wrong.values()), dtype=np.int64)
        (placebo,), (excess,) = _placebo_and_excess(*(counts[None] @ part for part in ranked))
        has_placebo = bool(np.isfinite(excess))
        return Headroom(
            questions,
            gold=corrected / questions if questions else None,
            placebo=float(placebo) if has_placebo else None,
            excess=float(excess) if has_placebo else None,
            excess_ci95=_interval(ranked, counts) if has_placebo and questions >= FEWEST else None,
            breaks=self._broken / self._right if self._right else None,
            stopped_early=self._early,
        )


def headroom(rows: pl.DataFrame) -> Headroom | None:
    """The headroom of records as `HeadroomTally.add` takes them; None without choice scores."""
    tally = HeadroomTally()
    tally.add(rows)
    return tally.result()


def _ranked(kinds: Mapping[WrongAnswer, int]) -> np.ndarray:
    """[4, Q, R] ranks of gold and of the placebos, and which of them some path reaches.

    Q kinds of questions and R ranks, counted from 0 after full depth's own answer. The four parts are: 1 at gold's
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
    """[draws] of each, weighted to gold's ranks, over questions whose rank has a placebo; NaN if no rank has one.

    The arguments are sums of `_ranked` over questions, [draws, R] each.
    """
    has_placebo = placebos > 0
    expected = gold * placebo_hits / np.maximum(placebos, 1)  # 0 without a placebo
    counted = np.where(has_placebo, gold, 0).sum(axis=1).astype(float)
    counted[counted == 0] = np.nan
    reached = np.where(has_placebo, gold_hits, 0).sum(axis=1)
    placebo = expected.sum(axis=1) / counted
    return placebo, reached / counted - placebo


def _interval(ranked: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """95 % bootstrap interval of the excess, with the placebo of each draw; None if no draw has one.

    There are counts[q] questions of each kind of `_ranked`. Questions of one pattern are exchangeable, so the
    bootstrap draws the patterns' counts.
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
