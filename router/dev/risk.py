"""Statistics of a stated risk: p-values, the fixed-sequence test, and how many questions it needs.

Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052): a setting is deployed if a test rejects that its risk
exceeds the stated one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

RiskKind = Literal["disagreement", "loss"]
MOST_QUESTIONS = 2**50
"""`questions_needed` looks no further."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers along other paths against those at full depth, counted; fractions of questions are allowed.

    Attributes:
        worse: answers that differ, or, of the loss, that are right at full depth alone.
        better: 0, or, of the loss, answers that are wrong at full depth alone.
        questions: all of them; at least 1.
    """

    worse: float
    better: float
    questions: float

    @property
    def observed(self) -> float:
        """Mean loss, in -1..1."""
        return (self.worse - self.better) / self.questions


@dataclass(frozen=True, slots=True)
class StatedRisk:
    """A bound on a risk, in 0..1, and the confidence in it, in 1/2..1.

    Attributes:
        kind: `disagreement`, the share of questions whose answer differs from full depth's; or `loss`, the accuracy
            at full depth minus the accuracy.
    """

    kind: RiskKind
    stated: float
    confidence: float

    def p_value(self, outcome: Outcome) -> float:
        """Of the hypothesis that the risk exceeds the stated one.

        Of the disagreement it is the exact binomial one. Of the loss it is twice the smaller (Bonferroni) of two: the
        Hoeffding-Bentkus one, and the exact binomial one of the share of questions that only full depth answers right.
        The loss never exceeds this share. Where few answers change, the second needs far fewer questions.
        """
        binomial = binomial_p(outcome.worse, outcome.questions, self.stated)
        if self.kind == "disagreement":
            return binomial
        scaled = (outcome.questions + outcome.worse - outcome.better) / 2  # from -1..1 to 0..1, summed
        bounded = hoeffding_bentkus_p(scaled, outcome.questions, (1 + self.stated) / 2)
        return min(1.0, 2 * min(binomial, bounded))

    def holds(self, outcome: Outcome) -> bool:
        """Whether the test rejects that the risk is larger."""
        return self.p_value(outcome) <= self.alpha

    @property
    def alpha(self) -> float:
        """Level of the test."""
        return 1 - self.confidence

    def questions_needed(self, outcome: Outcome) -> float:
        """The number of questions, about, from which an outcome with the same rates would pass; inf if none would."""
        if outcome.observed >= self.stated:
            return math.inf
        worse, better = outcome.worse / outcome.questions, outcome.better / outcome.questions
        return _smallest(lambda count: self.holds(Outcome(worse * count, better * count, count)))


def binomial_p(count: float, questions: float, risk: float) -> float:
    """P(X <= count) of X ~ Bin(questions, risk): exact p-value of a true rate above the risk.

    Numbers need not be whole: it is 1 − I_risk(count + 1, questions − count), with the regularised incomplete beta
    function I (Abramowitz and Stegun, 26.5.24).
    """
    from scipy.special import betainc

    return 1.0 if count >= questions else float(betainc(questions - count, count + 1, 1 - risk))


def hoeffding_bentkus_p(total: float, questions: float, risk: float) -> float:
    """P-value of a mean above the risk, for losses in 0..1 that sum to `total`.

    The smaller of exp(−n·h(min(R, α), α)) and e·P(Bin(n, α) <= ⌈nR⌉), with R the mean loss, α the risk and
    h(a, b) = a·ln(a/b) + (1−a)·ln((1−a)/(1−b)): the Hoeffding-Bentkus inequality (Bates et al. 2021, arXiv 2101.02703).
    """
    from scipy.special import rel_entr

    mean = min(total / questions, risk)
    divergence = float(rel_entr(mean, risk) + rel_entr(1 - mean, 1 - risk))
    bentkus = math.e * binomial_p(math.ceil(total), questions, risk)
    return min(math.exp(-questions * divergence), bentkus, 1.0)


def passing(candidates: Iterable[T], holds: Callable[[T], bool]) -> Iterator[T]:
    """The candidates before the first one that does not hold; later ones are not looked at.

    Fixed-sequence testing (as in Learn-then-Test): each is tested at the full level, and the chance
    that any that passes exceeds its risk is at most that level, if the order does not depend on the tested questions.
    """
    for candidate in candidates:
        if not holds(candidate):
            return
        yield candidate


def _smallest(enough: Callable[[int], bool]) -> float:
    """The smallest whole number from 1 that is enough, if every larger one is; inf above MOST_QUESTIONS."""
    high = 1
    while not enough(high):
        if high >= MOST_QUESTIONS:
            return math.inf
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
