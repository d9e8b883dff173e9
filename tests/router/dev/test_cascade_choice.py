"""The cascade that is chosen, against trying every path and gap; and how often its risk holds over fresh questions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pathgen.paths.layer_path import LayerPath
from router.dev.cascade_choice import GAPS, CheapAnswers, hold_cascade
from router.dev.risk import StatedRisk

LAYERS = 6
PATHS = [LayerPath.parse(text) for text in ("....-.", "...--.", "2.----")]


class MadeUp:
    """Development questions of known answers: [P, N] gaps, whether they differ, and whether they are right."""

    def __init__(self, gaps, differs, right=None, full=None):
        self.num_layers, self.questions = LAYERS, [None] * gaps.shape[1]
        self._gaps, self._differs, self._right, self.full = gaps, differs, right, full

    def next_token_gaps(self, path):
        return self._gaps[PATHS.index(path)]

    def agreement(self, paths):
        return ~self._differs[PATHS.index(paths[0])]

    def run(self, paths):
        return SimpleNamespace(correct=self._right[PATHS.index(paths[0])])


def brute_force(dev, stated, alpha):
    """(depth, path, gap) by trying everything, of the disagreement."""
    best, count = (float(LAYERS), None, None), len(dev.questions)
    for path in PATHS:
        fork = next(layer for layer, action in enumerate(path) if action != 1)
        for place, gap in enumerate(GAPS):
            safer = GAPS[: place + 1]
            counts = {sum(dev._differs[PATHS.index(path)] & (dev.next_token_gaps(path) >= one)) for one in safer}
            if binom.cdf(max(counts), count, stated) <= alpha / len(PATHS):
                stands = dev.next_token_gaps(path) >= gap
                depth = float(np.mean([path.depth if sure else path.depth + LAYERS - fork for sure in stands]))
                if depth < best[0] or (depth == best[0] and path == best[1]):
                    best = depth, path, gap
    return best


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.05, 0.2, 0.5]), st.floats(0.0, 0.6))
def test_it_is_the_least_deep_of_all_that_hold(seed, count, stated, share):
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(2, (len(PATHS), count))
    dev = MadeUp(gaps, rng.random(gaps.shape) < share * (gaps < 2))
    cascade, figures = hold_cascade(StatedRisk("disagreement", stated, 0.9), dev, PATHS)
    depth, path, gap = brute_force(dev, stated, 0.1)
    assert figures.depth == pytest.approx(depth)
    assert (figures.confidence, figures.questions) == (0.9, count)
    if path is None:
        assert cascade is None
    else:
        assert (cascade.path, cascade.gap) == (path, gap)


def test_a_cascade_that_saves_nothing_is_not_deployed():
    """Nearly every question falls back, so each path costs more than full depth."""
    gaps = np.full((len(PATHS), 200), 0.5)
    dev = MadeUp(gaps, np.ones(gaps.shape, dtype=bool))
    cascade, figures = hold_cascade(StatedRisk("disagreement", 0.1, 0.95), dev, PATHS)
    assert (cascade, figures.depth, figures.observed, figures.p_value) == (None, LAYERS, 0.0, None)
    assert figures.failed is not None


def test_the_loss_counts_right_answers():
    full = np.array([1, 1, 0, 0, 1], dtype=bool)
    right = np.array([1, 0, 1, 0, 1], dtype=bool)
    dev = MadeUp(np.ones((1, 5)), None, right[None], full)
    found = CheapAnswers.of("loss", dev, PATHS[0])
    assert found.worse.tolist() == [False, True, False, False, False]
    assert found.better.tolist() == [False, False, True, False, False]


def test_the_risk_exceeds_the_stated_one_at_most_as_often_as_the_confidence_allows():
    """200 draws of 150 questions, of which answers below a gap of 1 differ half the time: so the true risk is known."""
    rng, stated, exceeded = np.random.default_rng(3), 0.05, 0
    for _ in range(200):
        gaps = rng.exponential(3, (len(PATHS), 150))
        dev = MadeUp(gaps, (rng.random(gaps.shape) < 0.5) & (gaps < 1))
        cascade, _ = hold_cascade(StatedRisk("disagreement", stated, 0.9), dev, PATHS)
        if cascade is not None:
            true = 0.5 * max(0.0, np.exp(-min(cascade.gap, 1) / 3) - np.exp(-1 / 3))
            exceeded += true > stated
    assert exceeded / 200 <= 0.1


def test_without_questions_or_paths_it_is_full_depth():
    none = MadeUp(np.ones((3, 0)), np.zeros((3, 0), dtype=bool))
    stated = StatedRisk("disagreement", 0.1, 0.95)
    for dev, paths in ((none, PATHS), (MadeUp(np.ones((3, 4)), np.zeros((3, 4), dtype=bool)), [])):
        cascade, figures = hold_cascade(stated, dev, paths)
        assert (cascade, figures.depth, figures.p_value) == (None, LAYERS, None)
