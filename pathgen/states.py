"""Boundary states kept between calls, bounded in bytes: a search's next paths share most of what its last ran."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

from .sharing import StateKey


class KeptStates:
    """States by key, in the blocks [n, T, H] in which layers returned them; the least recently used block goes first.

    A block is held without a copy and dropped as a whole, so `nbytes` is what really stays allocated.

    Args:
        max_bytes: most bytes held; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._blocks: OrderedDict[int, tuple[Tensor, set[StateKey]]] = OrderedDict()
        self._where: dict[StateKey, tuple[int, int]] = {}
        self._next_block = 0

    def __contains__(self, key: StateKey) -> bool:
        return key in self._where

    def __getitem__(self, key: StateKey) -> Tensor:
        """[T, H] the state; using it makes its block the most recent."""
        block, index = self._where[key]
        self._blocks.move_to_end(block)
        return self._blocks[block][0][index]

    def put(self, keys: Sequence[StateKey], states: Tensor) -> None:
        """Hold a block [n, T, H], one key a row; none of the keys is held yet."""
        assert not any(key in self._where for key in keys)
        size = states.numel() * states.element_size()
        if size > self.max_bytes:
            return
        block, self._next_block = self._next_block, self._next_block + 1
        self._blocks[block] = (states, set(keys))
        self._where.update((key, (block, index)) for index, key in enumerate(keys))
        self.nbytes += size
        while self.nbytes > self.max_bytes:
            self._drop(next(iter(self._blocks)))

    def forget(self, rows: set[Hashable]) -> None:
        """Drop the states of rows that no search asks for any more."""
        for block, (_, keys) in list(self._blocks.items()):
            gone = {key for key in keys if key[0] in rows}
            keys -= gone
            for key in gone:
                del self._where[key]
            if not keys:
                self._drop(block)

    def clear(self) -> None:
        """Drop everything."""
        self._blocks.clear()
        self._where.clear()
        self.nbytes = 0

    def _drop(self, block: int) -> None:
        states, keys = self._blocks.pop(block)
        self.nbytes -= states.numel() * states.element_size()
        for key in keys:
            del self._where[key]
