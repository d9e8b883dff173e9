"""Examples are checked when they are made; an epoch visits every group equally."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_toys import LAYERS, MemoryRows, toy_examples

from pathgen.errors import ArtefactError, InputError
from router.data.examples import epoch_order

groups = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(np.array)


@given(groups=groups, seed=st.integers(0, 9), epoch=st.integers(1, 9))
def test_each_group_gives_equally_and_each_question_evenly(groups, seed, epoch):
    order = epoch_order(groups, seed, epoch)
    names = np.unique(groups)
    share = -(-len(groups) // len(names))
    visits = np.bincount(order, minlength=len(groups))
    for name in names:
        of_group = visits[groups == name]
        assert of_group.sum() == share
        assert of_group.max() - of_group.min() <= 1
    np.testing.assert_array_equal(order, epoch_order(groups, seed, epoch))


def test_one_group_is_visited_once_in_another_order_each_epoch():
    first, second = (epoch_order(np.zeros(50), 0, epoch) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(first) != list(second)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_feature_that_is_not_finite_is_named(bad):
    examples = toy_examples(6, seed=0)
    values = examples.features(range(6)).clone()
    values[4, 1, 0, 2] = bad
    examples = dataclasses.replace(examples, source=MemoryRows(values))
    assert torch.isfinite(examples.features([0, 3])).all()
    with pytest.raises(ArtefactError, match="question q4 hold NaN or Inf"):
        examples.features([0, 4, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": np.ones((4, LAYERS, 3), np.float32)}, "sum to 1"),
        ({"targets": np.ones((4, LAYERS), np.float32)}, "must be"),
        ({"targets": np.full((3, LAYERS, 3), 1 / 3)}, "3 rows for 4"),
        ({"weights": np.zeros(4)}, "not all 0"),
        ({"weights": np.array([1, 1, 1, -1.0])}, "at least 0"),
        ({"groups": np.zeros(5)}, "5 rows for 4"),
    ],
)
def test_examples_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy_examples(4, seed=0, **changes)


def test_no_questions_is_wrong_input():
    with pytest.raises(InputError, match="no questions"):
        toy_examples(0, seed=0)
