"""Metrics by hand-made tables and against naive loops."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.dev.metrics import ActionMetrics, PathShares, calibration_error, chosen_actions

actions = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, 2)) for _ in range(2)])
)


@given(actions)
def test_scores_are_those_of_a_loop(pair):
    predicted, target = pair
    metrics = ActionMetrics.of(predicted, target)
    cells = list(zip(predicted.ravel(), target.ravel(), strict=True))
    f1 = {}
    for action in range(3):
        hits = sum(p == t == action for p, t in cells)
        named, wanted = sum(p == action for p, _ in cells), sum(t == action for _, t in cells)
        precision, recall = hits / named if named else 0, hits / wanted if wanted else 0
        assert metrics.precision[action] == pytest.approx(precision)
        assert metrics.recall[action] == pytest.approx(recall)
        assert metrics.support[action] == wanted
        f1[action] = 2 * precision * recall / (precision + recall) if hits else 0
        assert metrics.f1[action] == pytest.approx(f1[action])
    present = {t for _, t in cells}
    assert metrics.macro_f1 == pytest.approx(sum(f1[action] for action in present) / len(present))
    for layer in range(predicted.shape[1]):
        assert metrics.layer_accuracy[layer] == pytest.approx(np.mean(predicted[:, layer] == target[:, layer]))
        counts = Counter(zip(target[:, layer], predicted[:, layer], strict=True))
        assert all(metrics.confusion_by_layer[layer, t, p] == counts[t, p] for t in range(3) for p in range(3))


def test_a_table_by_hand():
    metrics = ActionMetrics.of(np.array([[1, 1], [1, 0], [1, 1]]), np.array([[1, 0], [1, 0], [0, 1]]))
    np.testing.assert_array_equal(metrics.confusion, [[1, 2, 0], [0, 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(metrics.layer_accuracy, [2 / 3, 2 / 3])
    # Skip: precision 1, recall 1/3; execute: 3/5 and 1; repeat never occurs and is left out of the mean.
    assert metrics.macro_f1 == pytest.approx((0.5 + 0.75) / 2)
    assert astuple(metrics.per_class()["execute"]) == pytest.approx((0.6, 1, 0.75, 3))


def test_calibration_by_hand():
    # Confidence 0.9 is right once in two (gap 0.4), confidence 0.6 both times (gap 0.4), each half of the decisions.
    probabilities = np.array([[[0.9, 0.1, 0], [0.9, 0.1, 0]], [[0.2, 0.6, 0.2], [0.2, 0.6, 0.2]]])
    assert calibration_error(probabilities, np.array([[0, 1], [1, 1]])) == pytest.approx(0.4)
    # In one bin over- and under-confidence cancel: mean confidence 0.75, three of four right.
    assert calibration_error(probabilities, np.array([[0, 1], [1, 1]]), bins=1) == pytest.approx(0)


@given(st.integers(0, 99))
def test_calibration_is_that_of_a_loop(seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1, 1, 1], (5, 3))
    target = generator.integers(0, 3, (5, 3))
    bins: dict[int, list] = {}
    for row, wanted in zip(probabilities.reshape(-1, 3), target.ravel(), strict=True):
        bins.setdefault(int(np.ceil(row.max() * 10)), []).append((row.max(), row.argmax() == wanted))
    expected = sum(abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b])) * len(b) for b in bins.values()) / 15
    assert calibration_error(probabilities, target) == pytest.approx(expected)


def test_shares_of_paths_by_hand():
    shares = PathShares.of(np.array([[1, 1, 1], [0, 1, 1], [0, 1, 1], [2, 1, 1], [0, 1, 1]]))
    assert (shares.off_full, shares.off_common, shares.mean_depth) == pytest.approx((0.8, 0.4, 13 / 5))


def test_a_collapsed_router_is_seen_to_collapse():
    shares = PathShares.of(np.zeros((7, 3), dtype=int))
    assert (shares.off_full, shares.off_common, shares.mean_depth) == (1, 0, 0)


def test_ties_go_to_execute_then_skip():
    scores = np.array([[1, 1, 1], [2, 1, 2], [0, 1, 1], [0, 0, 1.0]])
    assert chosen_actions(scores).tolist() == [1, 0, 1, 2]


def test_nothing_to_count_is_refused():
    with pytest.raises(ValueError, match="actions must be"):
        ActionMetrics.of(np.zeros((0, 3), int), np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="actions must be"):
        ActionMetrics.of(np.zeros((2, 3), int), np.zeros((2, 4), int))
    with pytest.raises(ValueError, match="at least one question"):
        PathShares.of(np.zeros((0, 3), int))
