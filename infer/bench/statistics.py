"""What a benchmark may conclude from right and wrong answers: intervals, and paired comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from router.dev.routed_scores import paired_difference


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % of the share right (Wilson 1927, without continuity correction).

    Args:
        right: answers that were right.
        total: answers, at least one.
    """
    found = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)


def mcnemar_p(won: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test: whether questions are won as often as they are lost.

    Args:
        won: questions that only the new system answers right.
        lost: questions that only the old one does.
    """
    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system against another on the same questions.

    Attributes:
        delta: accuracy gained.
        ci95: 95 % of it, by a bootstrap over questions.
        p_value: of the exact McNemar test.
        discordant: questions won and questions lost.
    """

    delta: float
    ci95: tuple[float, float]
    p_value: float
    discordant: tuple[int, int]

    @classmethod
    def of(cls, new: NDArray[np.bool_], old: NDArray[np.bool_], seed: int) -> Comparison:
        """Compare two rows [N] of right and wrong answers.

        Raises:
            ValueError: they are empty or differ in length.
        """
        if new.shape != old.shape or not new.size:
            raise ValueError(f"two equal rows of answers are needed; got {new.shape} and {old.shape}")
        found = paired_difference(new, old, seed)
        won, lost = found["discordant"]
        low, high = found["ci95"]
        return cls(found["delta"], (low, high), mcnemar_p(won, lost), (won, lost))
