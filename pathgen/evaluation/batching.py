"""Which things run together: those of like length, as padding is work thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_PADDING = 0.12
"""A batch grows while padding stays below this share of it; beyond, padding eats what sharing gains."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What one thing takes of a batch.

    Attributes:
        width: tokens of its longest row.
        rows: how many it has.
        tokens: of all its rows.
    """

    width: int
    rows: int
    tokens: int

    @classmethod
    def of_row(cls, length: int) -> Extent:
        """A single row of so many tokens."""
        return cls(length, 1, length)


def like_lengths(
    extents: Sequence[Extent], order: Iterable[int], is_full: Callable[[list[int], int], bool]
) -> Iterator[list[int]]:
    """Batches of indices.

    Args:
        extents: of all things.
        order: their indices, widest first.
        is_full: whether a batch has no room for one more index, whatever its padding.
    """
    batch: list[int] = []
    rows = tokens = 0
    for index in order:
        extent = extents[index]
        if batch:
            padding = 1 - (tokens + extent.tokens) / (extents[batch[0]].width * (rows + extent.rows))
            if padding > MAX_PADDING or is_full(batch, index):
                yield batch
                batch, rows, tokens = [], 0, 0
        batch.append(index)
        rows += extent.rows
        tokens += extent.tokens
    if batch:
        yield batch
