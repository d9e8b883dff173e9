"""Maps solved from sums equal least squares over the tokens themselves, in numpy and float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pathgen.bridges.sums import OUTLIER, LayerSums

WIDTH, TOKENS, RIDGE = 12, 400, 1e-2
Array = NDArray[np.float64]


def made_up(seed: int, tokens: int = TOKENS) -> tuple[Array, Array]:
    """[n, H] states and the changes that a layer makes: affine in the normalised state, up to noise of full rank."""
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(tokens, WIDTH)) * rng.uniform(0.5, 4, size=(tokens, 1)) + 0.3
    true = np.random.default_rng(99).normal(size=(WIDTH, WIDTH)) * np.linspace(1, 0.1, WIDTH)
    change = normed(before) @ true + rng.normal(size=(tokens, WIDTH)) * 0.2 + 1.5
    return before, change


def normed(states: Array) -> Array:
    return states / np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-5)


def add(sums: LayerSums, before: Array, change: Array) -> LayerSums:
    sums.add(torch.from_numpy(before).float(), torch.from_numpy(before + change).float())
    return sums


def least_squares(before: Array, change: Array, ridge: float) -> tuple[Array, Array]:
    """[H, H] weights and [H] bias: `ridge` enters as rows under the features, which the bias does not see."""
    features = np.hstack([normed(before), np.ones((len(before), 1))])
    penalty = np.sqrt(ridge * (features[:, :-1] ** 2).sum(axis=0).mean())
    rows = np.vstack([features, np.hstack([penalty * np.eye(WIDTH), np.zeros((WIDTH, 1))])])
    solved = np.linalg.lstsq(rows, np.vstack([change, np.zeros((WIDTH, WIDTH))]), rcond=None)[0]
    return solved[:-1], solved[-1]


def reduced_rank(before: Array, change: Array, ridge: float, rank: int) -> tuple[Array, Array]:
    """The same of a rank: projected on the first right singular vectors of the centred fitted changes; same mean."""
    weights, _ = least_squares(before, change, ridge)
    states = normed(before)
    fitted = (states - states.mean(axis=0)) @ weights
    first = np.linalg.svd(fitted)[2][:rank]
    weights = weights @ first.T @ first
    return weights, change.mean(axis=0) - states.mean(axis=0) @ weights


@pytest.mark.parametrize("ridge", [0.0, RIDGE, 1.0])
def test_the_whole_map_is_ridge_regression(ridge: float) -> None:
    before, change = made_up(0)
    bridge = add(LayerSums.empty(WIDTH), before, change).solve(None, ridge)
    weights, bias = least_squares(before, change, ridge)
    assert bridge.up is None
    assert (bridge.rank, bridge.parameters) == (WIDTH, WIDTH * WIDTH + WIDTH)
    np.testing.assert_allclose(bridge.down.numpy().T, weights, atol=1e-4)
    np.testing.assert_allclose(bridge.bias.numpy(), bias, atol=1e-4)
    states, _ = made_up(1, tokens=5)
    applied = bridge.apply(torch.from_numpy(states).float())
    np.testing.assert_allclose(applied.numpy(), states + normed(states) @ weights + bias, atol=1e-3)


@pytest.mark.parametrize("rank", [1, 4, WIDTH - 1])
def test_a_map_of_a_rank_is_reduced_rank_regression(rank: int) -> None:
    before, change = made_up(0)
    bridge = add(LayerSums.empty(WIDTH), before, change).solve(rank, RIDGE)
    assert bridge.up is not None
    assert (bridge.rank, bridge.parameters) == (rank, 2 * rank * WIDTH + WIDTH)
    weights, bias = reduced_rank(before, change, RIDGE, rank)
    np.testing.assert_allclose((bridge.up @ bridge.down).numpy().T, weights, atol=1e-4)
    np.testing.assert_allclose(bridge.bias.numpy(), bias, atol=1e-4)


def test_no_map_of_the_rank_errs_less() -> None:
    """Least error of rank r: that of the whole map, and the fitted changes' other squared singular values."""
    before, change = made_up(0)
    rank = 4
    weights, bias = least_squares(before, change, 0.0)
    states = normed(before)
    whole = ((states @ weights + bias - change) ** 2).sum()
    values = np.linalg.svd((states - states.mean(axis=0)) @ weights, compute_uv=False)
    bridge = add(LayerSums.empty(WIDTH), before, change).solve(rank, 0.0)
    error = ((bridge.apply(torch.from_numpy(before).float()).numpy() - before - change) ** 2).sum()
    assert error == pytest.approx(whole + (values[rank:] ** 2).sum(), rel=1e-4)


def test_a_rank_of_the_width_or_more_is_the_whole_map() -> None:
    sums = add(LayerSums.empty(WIDTH), *made_up(0))
    for rank in (WIDTH, WIDTH + 5):
        assert sums.solve(rank, RIDGE).up is None
        assert torch.equal(sums.solve(rank, RIDGE).down, sums.solve(None, RIDGE).down)


def test_sums_of_parts_merge_to_those_of_all_tokens() -> None:
    parts = [made_up(0, 150), made_up(1, 250)]
    merged = add(LayerSums.empty(WIDTH), *parts[0])
    merged.merge(add(LayerSums.empty(WIDTH), *parts[1]))
    together = add(add(LayerSums.empty(WIDTH), *parts[0]), *parts[1])
    assert merged.tokens == together.tokens == 400
    assert torch.equal(merged.gram, together.gram)
    assert torch.equal(merged.cross, together.cross)
    weights, bias = least_squares(*map(np.concatenate, zip(*parts, strict=True)), RIDGE)
    bridge = merged.solve(None, RIDGE)
    np.testing.assert_allclose(bridge.down.numpy().T, weights, atol=1e-4)
    np.testing.assert_allclose(bridge.bias.numpy(), bias, atol=1e-4)


def test_massive_changes_are_left_out() -> None:
    before, change = made_up(0)
    with_outliers = change.copy()
    with_outliers[[0, 7]] *= 1e4
    sizes = np.linalg.norm(with_outliers, axis=1)
    assert (sizes >= OUTLIER * np.median(sizes)).sum() == 2
    sums = add(LayerSums.empty(WIDTH), before, with_outliers)
    assert sums.tokens == TOKENS - 2
    weights, _ = least_squares(np.delete(before, [0, 7], axis=0), np.delete(change, [0, 7], axis=0), RIDGE)
    np.testing.assert_allclose(sums.solve(None, RIDGE).down.numpy().T, weights, atol=1e-4)


def test_states_that_are_not_finite_are_refused() -> None:
    before, change = made_up(0)
    change[3, 2] = np.nan
    sums = LayerSums.empty(WIDTH)
    with pytest.raises(ValueError, match="not a finite number"):
        add(sums, before, change)
    assert sums.tokens == 0
