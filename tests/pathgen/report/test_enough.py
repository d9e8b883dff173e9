"""The number of questions that a gain takes to show."""

from __future__ import annotations

import numpy as np
import pytest

from pathgen.report.enough import DIFFERING, few_questions, questions_to_show


@pytest.mark.parametrize("gain", [0.05, 0.02])
def test_a_gain_shows_in_four_of_five_runs_of_so_many_questions(gain):
    count = questions_to_show(gain)
    shares = [(DIFFERING + gain) / 2, (DIFFERING - gain) / 2, 1 - DIFFERING]
    won, lost, _ = np.random.default_rng(0).multinomial(count, shares, size=20_000).T
    shown = won - lost > 1.96 * np.sqrt(won + lost)  # McNemar's test
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


def test_the_hint_comes_with_few_questions_alone():
    assert "about 300 to show, 2 points about 2,000" in few_questions(48, "runs/a b")
    assert few_questions(48, "runs/a b").endswith("--paths 'runs/a b' --out static.json")
    assert few_questions(questions_to_show(0.05), "runs/a") is None
