"""The loss and the class weights against numbers worked out by hand, and against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from router.training.losses import class_weights, focal_loss

ONES = torch.ones(3)


def test_focal_loss_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    one_hot = focal_loss(logits, torch.tensor([[1.0, 0, 0]]), ONES, gamma=2)
    assert one_hot.item() == pytest.approx(0.25 * math.log(2))
    soft = focal_loss(logits, torch.tensor([[0.5, 0.5, 0]]), torch.tensor([1.0, 2.0, 9.0]), gamma=1)
    assert soft.item() == pytest.approx(0.5 * 0.5 * math.log(2) + 2 * 0.5 * 0.75 * math.log(4))


@given(seed=st.integers(0, 999))
def test_without_focus_and_weights_it_is_cross_entropy(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, 3, generator=generator) * 5
    targets = torch.rand(5, 4, 3, generator=generator).softmax(-1)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none")
    torch.testing.assert_close(focal_loss(logits, targets, ONES, gamma=0).flatten(), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_banned_actions_and_certainty_give_finite_gradients(gamma):
    logits = torch.tensor([[0.3, 0.1, float("-inf")], [200.0, 0.0, float("-inf")]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[0.4, 0.6, 0], [1.0, 0, 0]]), ONES, gamma)
    loss.sum().backward()
    assert loss[0] > 0
    assert loss[1].item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] != 0


def test_class_weights_by_hand():
    # Effective numbers at β = 0.5: 1 → 1, 2 → 1.5; weights 1 and 2/3, of mean 5/6.
    np.testing.assert_allclose(class_weights(np.array([1, 2, 0]), 0.5), [1.2, 0.8, 0])
    np.testing.assert_allclose(class_weights(np.array([0.01, 2, 0]), 0.5), [1.2, 0.8, 0])


@given(counts=st.lists(st.floats(0, 1e6), min_size=3, max_size=3).filter(any), beta=st.sampled_from([0, 0.9, 0.999]))
def test_class_weights_have_mean_one_and_favour_the_rare(counts, beta):
    weights = class_weights(np.array(counts), beta)
    present = np.array(counts) > 0
    assert weights[present].mean() == pytest.approx(1)
    assert (weights[~present] == 0).all()
    order = np.argsort(np.array(counts)[present])
    assert (np.diff(weights[present][order]) <= 1e-12).all()


def test_no_class_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one class"):
        class_weights(np.zeros(3), 0.999)
