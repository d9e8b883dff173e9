"""What runs together: bounded padding, nothing lost, nothing twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pathgen.evaluation.batching import MAX_PADDING, Extent, like_lengths


@st.composite
def extents(draw):
    rows = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 60), min_size=rows, max_size=rows))
    return Extent(max(lengths), rows, sum(lengths))


@given(st.lists(extents(), max_size=20), st.integers(1, 6))
def test_batches_hold_everything_once_within_bounds(things, most):
    order = sorted(range(len(things)), key=lambda index: -things[index].width)
    batches = list(like_lengths(things, order, lambda batch, index: len(batch) == most))
    assert [index for batch in batches for index in batch] == order
    for batch in batches:
        area = things[batch[0]].width * sum(things[index].rows for index in batch)
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or 1 - sum(things[index].tokens for index in batch) / area <= MAX_PADDING


def test_like_lengths_share_a_batch_and_unlike_ones_do_not():
    things = [Extent(length, 1, length) for length in (100, 95, 90, 40, 39)]
    assert list(like_lengths(things, range(5), lambda batch, index: False)) == [[0, 1, 2], [3, 4]]
