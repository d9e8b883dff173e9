"""Batches of similar length, because padding is wasted work, and of one kind, because some rows never share a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.probe.restrictions import Restrictions, RowKind

MAX_PADDING = 0.12
"""Largest share of padding in a batch; with more, padding costs more than a shared batch saves."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of one item: tokens of its longest row, number of rows, tokens of all rows, and the kind of its rows."""

    width: int
    rows: int
    tokens: int
    kind: RowKind = (False, 0)


def row_batches(lengths: Sequence[int], limit: int, restrictions: Restrictions) -> Iterator[list[int]]:
    """Batches of indices of rows of these lengths, the longest first: at most `limit` tokens, padding included.

    Rows of different kind, by the model's `restrictions`, never share a batch.
    """
    extents = [Extent(length, 1, length, restrictions.kind(length)) for length in lengths]
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return like_lengths(extents, order, lambda batch, _: lengths[batch[0]] * (len(batch) + 1) > limit)


def like_lengths(
    extents: Sequence[Extent], order: Iterable[int], is_full: Callable[[list[int], int], bool]
) -> Iterator[list[int]]:
    """Batches of indices of one kind, taken from `order` (the indices of all `extents`, kind by kind, widest first).

    A batch also ends where `is_full(batch, next index)` is true, for any padding.
    """
    batch: list[int] = []
    rows = tokens = 0
    for index in order:
        extent = extents[index]
        if batch:
            padding = 1 - (tokens + extent.tokens) / (extents[batch[0]].width * (rows + extent.rows))
            if extent.kind != extents[batch[0]].kind or padding > MAX_PADDING or is_full(batch, index):
                yield batch
                batch, rows, tokens = [], 0, 0
        batch.append(index)
        rows += extent.rows
        tokens += extent.tokens
    if batch:
        yield batch
