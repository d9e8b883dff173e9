"""Intervals and tests of counts of right answers, the same in every command; they stay honest for few questions."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest

DRAWS = 10_000
LEAST_SPREAD = 20
"""Below this sum of squared deviations of the differences, bootstrap draws are too much alike."""
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two ways to answer the same questions, compared.

    Attributes:
        delta: accuracy gained.
        ci95: 95 % interval of delta over questions, as `difference_interval` gives it.
        discordant: questions won and questions lost.
    """

    delta: float
    ci95: tuple[float, float]
    discordant: tuple[int, int]


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of the share of right answers (Wilson 1927, without continuity correction); `total` is above 0."""
    found = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)


def mcnemar_p(won: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test on questions that only one of two systems answers right."""
    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def paired_difference(
    new: NDArray[np.bool_], old: NDArray[np.bool_], seed: int, *, same_paths: bool = False
) -> PairedDifference:
    """Compare two rows [N] of right and wrong answers.

    `same_paths` says that both took the same path on every question: the difference is 0, whatever the questions.

    Raises:
        ValueError: the rows are empty or differ in length.
    """
    if new.shape != old.shape or not new.size:
        raise ValueError(f"two equal rows of answers are needed; got {new.shape} and {old.shape}")
    won, lost = int((new & ~old).sum()), int((~new & old).sum())
    ends = (0.0, 0.0) if same_paths else difference_interval(won, lost, len(new), seed)
    return PairedDifference((won - lost) / len(new), ends, (won, lost))


def difference_interval(won: int, lost: int, total: int, seed: int) -> tuple[float, float]:
    """95 % interval of the accuracy gained, from the questions won and lost among `total`.

    It is the paired bootstrap of DRAWS draws with the seed, which draws how many questions are won, lost, or neither.
    Where few questions differ, or nearly all in one way, such draws hardly differ from each other, and the interval
    would be too short or empty; there it is `score_interval`.
    """
    if won + lost - (won - lost) ** 2 / total < LEAST_SPREAD:
        return score_interval(won, lost, total)
    shares = np.array([won, lost, total - won - lost]) / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=DRAWS)  # [draws, 3]
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / total, [0.025, 0.975])
    return float(low), float(high)


def score_interval(won: int, lost: int, total: int) -> tuple[float, float]:
    """95 % score interval of the difference of paired proportions (Tango, Statistics in Medicine 17:891, 1998).

    It holds every difference δ that the score test with McNemar's variance at δ does not reject. It is never empty:
    without any question won or lost among n it is ± z²/(n + z²).
    """
    found = (won - lost) / total

    def rejects(delta: float) -> float:
        """Above 0 where the test rejects δ."""
        linear = (2 * total - won + lost) * delta - won - lost
        constant = -lost * delta * (1 - delta)
        only_old = (sqrt(max(linear**2 - 8 * total * constant, 0.0)) - linear) / (4 * total)  # likeliest share lost
        variance = total * (2 * only_old + delta * (1 - delta))
        return float((won - lost - total * delta) ** 2 - Z95**2 * variance)

    inside = 1e-9  # at the observed difference itself both terms may be 0
    low = brentq(rejects, -1.0, found - inside) if lost < total else -1.0
    high = brentq(rejects, found + inside, 1.0) if won < total else 1.0
    return float(low), float(high)
