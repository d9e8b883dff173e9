"""Statistics of counts of right and wrong answers."""

from __future__ import annotations

from scipy.stats import binomtest


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of the share of right answers (Wilson 1927, without continuity correction); `total` is above 0."""
    found = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)


def mcnemar_p(won: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test on questions that only one of two systems answers right."""
    return float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
