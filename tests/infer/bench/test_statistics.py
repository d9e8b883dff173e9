"""Intervals and comparisons against numbers worked out by hand, and against the definitions."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infer.bench.statistics import mcnemar_p, wilson_interval
from router.dev.routed_scores import PairedDifference, paired_difference

Z = 1.959963984540054


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
    middle = (p + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * sqrt(p * (1 - p) / total + Z**2 / (4 * total**2))
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
    assert low == pytest.approx(0.2 - Z * 0.0748, abs=0.015)
    assert high == pytest.approx(0.2 + Z * 0.0748, abs=0.015)
    assert paired_difference(new, old, seed=3) == found
    back = paired_difference(old, new, seed=3)
    assert (back.delta, back.discordant) == (-found.delta, (20, 40))
    assert mcnemar_p(*back.discordant) == mcnemar_p(*found.discordant)
    assert back.ci95 == pytest.approx((-high, -low), abs=0.011)  # a step of one question is 0.01


@settings(max_examples=5, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_system_against_itself_is_no_difference(answers):
    row = np.array(answers)
    found = paired_difference(row, row, seed=0)
    assert (found, mcnemar_p(*found.discordant)) == (PairedDifference(0.0, (0.0, 0.0), (0, 0)), 1.0)


def test_unequal_rows_are_refused():
    with pytest.raises(ValueError, match="two equal rows"):
        paired_difference(np.array([True]), np.array([True, False]), seed=0)
