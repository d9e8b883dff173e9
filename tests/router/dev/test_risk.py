"""The statistics of a stated risk: against sums by hand and scipy, and the promise itself on simulated questions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from router.dev.risk import Outcome, StatedRisk, binomial_p, hoeffding_bentkus_p, passing
from router.dev.risk_control import RiskFigures, SettingFigures, risk_text

TWO_PERCENT = StatedRisk("disagreement", 0.02, 0.95)
ONE_POINT = StatedRisk("loss", 0.01, 0.95)


@pytest.mark.parametrize("risk", [0.02, 0.3])
@pytest.mark.parametrize("questions", [1, 7, 149])
def test_the_binomial_p_value_is_the_sum_of_its_terms(questions, risk):
    terms = [math.comb(questions, k) * risk**k * (1 - risk) ** (questions - k) for k in range(questions + 1)]
    for count in range(questions + 1):
        assert binomial_p(count, questions, risk) == pytest.approx(math.fsum(terms[: count + 1]), rel=1e-9)


def test_the_hoeffding_bentkus_p_value_is_the_smaller_of_its_two():
    for total, questions, risk in ((0, 50, 0.1), (3.5, 80, 0.1), (40.5, 100, 0.505), (90, 100, 0.5), (300, 1000, 0.33)):
        mean = min(total / questions, risk)
        parts = [a * math.log(a / b) if a else 0.0 for a, b in ((mean, risk), (1 - mean, 1 - risk))]
        expected = min(math.exp(-questions * sum(parts)), math.e * binom.cdf(math.ceil(total), questions, risk), 1)
        assert hoeffding_bentkus_p(total, questions, risk) == pytest.approx(expected, rel=1e-9)


def test_of_the_loss_the_better_of_two_tests_is_paid_for_twice():
    few = Outcome(1, 0, 900)  # only one answer lost: the exact test finds it
    assert ONE_POINT.p_value(few) == pytest.approx(2 * binom.cdf(1, 900, 0.01))
    many = Outcome(100, 500, 1000)  # many lost, more gained: the mean shows it
    assert ONE_POINT.p_value(many) == pytest.approx(2 * hoeffding_bentkus_p(300, 1000, 0.505))
    assert ONE_POINT.holds(many)
    assert many.observed == -0.4
    assert not ONE_POINT.holds(Outcome(10, 0, 900))


def test_the_questions_needed_are_the_fewest_that_pass():
    assert TWO_PERCENT.questions_needed(Outcome(0, 0, 12)) == 149
    assert 0.98**149 <= 0.05 < 0.98**148
    assert TWO_PERCENT.questions_needed(Outcome(1, 0, 50)) == math.inf
    assert TWO_PERCENT.questions_needed(Outcome(4, 0, 120)) == math.inf
    needed = TWO_PERCENT.questions_needed(Outcome(1, 0, 100))
    assert binom.cdf(math.floor(needed / 100), needed, 0.02) <= 0.05 < binom.cdf(math.ceil(needed / 100), needed, 0.02)
    assert ONE_POINT.questions_needed(Outcome(0, 0, 1)) == math.ceil(math.log(0.025) / math.log(0.99))
    assert StatedRisk("loss", 0.3, 0.9).questions_needed(Outcome(1, 0, 10)) < 100


def test_the_sequence_stops_at_the_first_that_fails():
    asked = []

    def holds(p):
        asked.append(p)
        return p <= 0.05

    assert list(passing([0.01, 0.05, 0.2, 0.001], holds)) == [0.01, 0.05]
    assert asked == [0.01, 0.05, 0.2]
    assert list(passing([], holds)) == []


@pytest.mark.parametrize(
    ("risk", "lost", "won", "questions"),
    [
        (StatedRisk("disagreement", 0.1, 0.9), [0.02, 0.06, 0.1001, 0.15], [0, 0, 0, 0], 200),
        (StatedRisk("disagreement", 0.02, 0.95), [0.0201, 0.0202, 0.03], [0, 0, 0], 400),
        (StatedRisk("loss", 0.1, 0.9), [0.05, 0.1001, 0.3], [0, 0, 0.1], 300),
        (StatedRisk("loss", 0.05, 0.8), [0.3, 0.3], [0.28, 0.2499], 300),
    ],
)
def test_what_is_deployed_seldom_exceeds_the_stated_risk(risk, lost, won, questions):
    """Draws share questions between candidates, as paths do; the promise is 1 − confidence."""
    rng, draws, too_much, known = np.random.default_rng(3), 1500, 0, {}
    true = np.array(lost) - np.array(won)

    def holds(counts):
        if counts not in known:
            known[counts] = risk.holds(Outcome(*counts, questions))
        return known[counts]

    for _ in range(draws):
        hardness = rng.random(questions)
        counts = [
            (int((hardness < worse).sum()), int((hardness > 1 - better).sum()))
            for worse, better in zip(lost, won, strict=True)
        ]
        deployed = len(list(passing(counts, holds))) - 1
        too_much += deployed >= 0 and true[deployed] > risk.stated
    alpha = 1 - risk.confidence
    assert too_much / draws <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / draws)
    if risk.kind == "disagreement":  # the exact test leaves little of the level unused
        assert too_much / draws > alpha / 4


def figures(**changes):
    shared = {"kind": "disagreement", "stated": 0.02, "confidence": 0.95, "observed": 0.0, "questions": 120}
    return RiskFigures(**{**shared, "depth": 30.0, "num_layers": 30, "p_value": None, "failed": None, **changes})


def test_the_statement_in_words():
    passed = figures(observed=0.01, questions=900, depth=27.0, p_value=0.02)
    assert risk_text(passed) == (
        "answers differ from full depth's on at most 2 %, with 95 % confidence (1 % on 900 held-out questions, at "
        "depth 27 of 30)"
    )
    failed = figures(failed=SettingFigures(28.0, 4 / 120, 0.9, math.inf))
    assert risk_text(failed) == (
        "full depth is deployed, because on 120 held-out questions nothing shallower shows: answers differ from full "
        "depth's on at most 2 %, with 95 % confidence; the deepest tried, 28 of 30 layers, differs on 3.33 %: at that "
        "rate no number of questions is enough, and without a difference 149 are needed"
    )
    near = figures(kind="loss", failed=SettingFigures(28.0, 0.0, 0.3, 184))
    assert risk_text(near).endswith("28 of 30 layers, loses 0 %: at that rate about 184 questions are needed")
    none = risk_text(figures())
    assert none.startswith("full depth is deployed, because no shallower path was found; it takes at least 149 ")
    assert "because no question is held out from the choice;" in risk_text(figures(questions=0))
