"""Windows against a plain loop over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from router.net.pooling import Pooling


def by_loop(hidden, mask, windows):
    """One row's windows, token by token."""
    tokens = [state for state, real in zip(hidden, mask, strict=True) if real]
    count = len(tokens)
    means = []
    for window in range(windows):
        start, end = math.floor(window * count / windows), math.ceil((window + 1) * count / windows)
        means.append(torch.stack(tokens[start:end]).mean(0))
    return torch.stack(means)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    windows=st.integers(1, 9),
    left=st.booleans(),
    seed=st.integers(0, 99),
)
def test_each_window_is_the_mean_of_its_tokens(lengths, windows, left, seed):
    width = max(lengths)
    hidden = torch.randn(len(lengths), width, 3, generator=torch.Generator().manual_seed(seed))
    rows = [[1] * n + [0] * (width - n) for n in lengths]
    mask = torch.tensor([row[::-1] if left else row for row in rows])
    pooled = Pooling(windows=windows).pool(hidden, mask)
    for row, length in enumerate(lengths):
        assert length == mask[row].sum()
        torch.testing.assert_close(pooled[row], by_loop(hidden[row], mask[row], windows))


def test_last_is_the_last_prompt_token():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    pooled = Pooling("last", 1).pool(hidden, mask)
    torch.testing.assert_close(pooled[:, 0], torch.stack([hidden[0, 1], hidden[1, 2]]))


def test_impossible_poolings_are_refused():
    for kind, windows in (("first", 1), ("last", 2), ("windows", 0), ("windows", 10**12), ("windows", 2.0)):
        with pytest.raises(ValueError, match="pooling"):
            Pooling(kind, windows)
