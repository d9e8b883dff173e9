"""What a benchmark may conclude from counts of right and wrong answers."""

from __future__ import annotations

from scipy.stats import binomtest


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
