"""Intervals and comparisons against numbers worked out by hand, and against the definitions."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial

from pathgen.evaluation.intervals import (
    LEAST_SPREAD,
    Z95,
    PairedDifference,
    difference_interval,
    mcnemar_p,
    paired_difference,
    score_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # z² / (n + z²) = 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # the worked example of Newcombe 1998, method 3
    ],
)
def test_wilson_by_hand(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(counts):
    right, total = counts
    p = right / total
    middle = (p + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
    half = Z95 / (1 + Z95**2 / total) * sqrt(p * (1 - p) / total + Z95**2 / (4 * total**2))
    low, high = wilson_interval(right, total)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert low - 1e-12 <= p <= high + 1e-12


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (1, 9, 2 * (1 + 10) / 1024),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(won, lost, p):
    assert mcnemar_p(won, lost) == pytest.approx(p)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_twice_the_smaller_binomial_tail(won, lost):
    total = won + lost
    tail = sum(comb(total, k) for k in range(min(won, lost) + 1)) / 2**total
    assert mcnemar_p(won, lost) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_a_comparison_counts_the_questions_that_differ():
    new = np.array([1, 1, 1, 0, 0] * 20, dtype=bool)
    old = np.array([1, 0, 0, 1, 0] * 20, dtype=bool)
    found = paired_difference(new, old, seed=3)
    assert found.delta == pytest.approx(0.2)
    assert found.discordant == (40, 20)
    # The standard error of the mean of (1 twice, −1 once, 0 twice) over 100 is √(0.6 − 0.04)/10 = 0.0748.
    assert mcnemar_p(*found.discordant) == pytest.approx(mcnemar_p(40, 20))
    low, high = found.ci95
    assert low == pytest.approx(0.2 - Z95 * 0.0748, abs=0.015)
    assert high == pytest.approx(0.2 + Z95 * 0.0748, abs=0.015)
    assert paired_difference(new, old, seed=3) == found
    back = paired_difference(old, new, seed=3)
    assert (back.delta, back.discordant) == (-found.delta, (20, 40))
    assert mcnemar_p(*back.discordant) == mcnemar_p(*found.discordant)
    assert back.ci95 == pytest.approx((-high, -low), abs=0.011)  # a step of one question is 0.01


@settings(max_examples=5, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_system_against_itself_is_no_difference(answers):
    row = np.array(answers)
    found = paired_difference(row, row, seed=0, same_paths=True)
    assert (found, mcnemar_p(*found.discordant)) == (PairedDifference(0.0, (0.0, 0.0), (0, 0)), 1.0)


def test_unequal_rows_are_refused():
    with pytest.raises(ValueError, match="two equal rows"):
        paired_difference(np.array([True]), np.array([True, False]), seed=0)


COUNTS = st.integers(1, 80).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.just(total)).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.integers(0, pair[1] - pair[0]), st.just(pair[1]))
    )
)
"""Questions won, lost, and all."""


@pytest.mark.parametrize(
    ("won", "lost", "total", "low", "high"),
    [
        (0, 0, 10, -0.2775, 0.2775),  # z² / (n + z²), as Wilson's for 0 of 10
        (2, 0, 2, -0.3152, 1.0),  # (n − z²) / (n + z²): two questions won of two say next to nothing
        (0, 2, 2, -1.0, 0.3152),
        (10, 0, 10, 0.4449, 1.0),
    ],
)
def test_a_score_interval_by_hand(won, lost, total, low, high):
    assert score_interval(won, lost, total) == pytest.approx((low, high), abs=5e-5)
    assert difference_interval(won, lost, total, seed=0) == score_interval(won, lost, total)


@settings(max_examples=60, deadline=None)
@given(COUNTS)
def test_the_ends_of_a_score_interval_are_where_the_score_test_gives_z(counts):
    """The share lost is fitted under the constraint by hand: by the likelihood, which has no closed form here."""
    won, lost, total = counts
    low, high = score_interval(*counts)
    assert -1 <= low <= (won - lost) / total <= high <= 1
    assert low < high
    for end in (low, high):
        if not -0.999 < end < 0.999:
            continue

        def unlikely(share, end=end):
            cells = np.array([share + end, share, 1 - 2 * share - end])
            return -float(np.array([won, lost, total - won - lost]) @ np.log(np.maximum(cells, 1e-300)))

        bounds = (max(0.0, -end), (1 - end) / 2)
        share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        variance = total * (2 * share + end - end**2)
        assert abs(won - lost - total * end) == pytest.approx(Z95 * sqrt(variance), rel=2e-3)


@pytest.mark.parametrize("shares", [(0.02, 0.02), (0.3, 0.1), (0.6, 0.02)])
@pytest.mark.parametrize("total", [5, 12])
def test_the_interval_of_few_questions_holds_the_truth_nearly_as_often_as_it_says(shares, total):
    """By the exact distribution of all outcomes. The bootstrap alone holds it in .81 to .91 of the last two."""
    held = 0.0
    for won in range(total + 1):
        for lost in range(total + 1 - won):
            chance = multinomial.pmf((won, lost, total - won - lost), total, (*shares, 1 - sum(shares)))
            low, high = difference_interval(won, lost, total, seed=0)
            held += chance * (low <= shares[0] - shares[1] <= high)
    assert held >= 0.93


def test_many_questions_that_differ_are_drawn_with_the_seed():
    assert difference_interval(60, 30, 1000, seed=1) == difference_interval(60, 30, 1000, seed=1)
    assert difference_interval(60, 30, 1000, seed=1) == pytest.approx(score_interval(60, 30, 1000), abs=0.002)
    few = (LEAST_SPREAD - 1, 0, 10_000)  # nearly a spread of so many questions
    assert difference_interval(*few, seed=1) == score_interval(*few)
    assert difference_interval(1000, 0, 1000, seed=1) == pytest.approx((0.9923, 1.0), abs=1e-4)


def test_an_unknown_difference_of_equal_answers_is_not_zero_for_sure():
    row = np.array([True, False] * 20)
    assert paired_difference(row, row, seed=0).ci95 == pytest.approx((-0.0876, 0.0876), abs=5e-5)  # z² / (40 + z²)
