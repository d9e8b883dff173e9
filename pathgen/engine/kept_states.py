"""States between layers, kept from call to call up to a limit in bytes: the next paths of a search reuse most."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from ..slots.layer_slots import Content
from .sharing import StateKey, is_bridge, states_to


@dataclass(slots=True, eq=False)
class _Block:
    """States [n, T, H] as a layer returned them, what it stored, and the states not yet dropped."""

    states: Tensor
    stored: Content | None
    held: set[StateKey]

    @property
    def nbytes(self) -> int:
        """Bytes that stay allocated: a model may return keys and values as views of a larger tensor."""
        storages = [tensor.untyped_storage() for tensor in (self.states, *(self.stored or {}).values())]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class KeptStates:
    """States by key, in the blocks that layers returned; the least recently used block is dropped first.

    A block is held without a copy and dropped as a whole, so `nbytes` is the allocated memory. It never exceeds
    `max_bytes`; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._where: dict[StateKey, tuple[int, int]] = {}
        self._numbers = count()

    def __contains__(self, key: StateKey) -> bool:
        return key in self._where

    def __getitem__(self, key: StateKey) -> Tensor:
        """[T, H] the state; its block becomes the most recently used."""
        block, index = self._used(key)
        return block.states[index]

    def stored(self, key: StateKey) -> Content:
        """What the state's last layer stored for its row; its block becomes the most recently used."""
        block, index = self._used(key)
        assert block.stored is not None
        return {name: part[index] for name, part in block.stored.items()}

    def holds_way_to(self, key: StateKey) -> bool:
        """Whether all states up to and including this one are held with what was stored; a bridge stores nothing."""
        places = ((state, self._where.get(state)) for state in states_to(key))
        return all(
            place is not None and (is_bridge(state) or self._blocks[place[0]].stored is not None)
            for state, place in places
        )

    def put(self, keys: Sequence[StateKey], states: Tensor, stored: Content | None = None) -> None:
        """Hold a block [n, T, H], one key per row; a state already held moves to the new block."""
        block = _Block(states, stored, set(keys))
        if block.nbytes > self.max_bytes:
            return
        self._remove([key for key in keys if key in self._where])
        number = next(self._numbers)
        self._blocks[number] = block
        self._where.update((key, (number, index)) for index, key in enumerate(keys))
        self.nbytes += block.nbytes
        while self.nbytes > self.max_bytes:
            self._remove(list(next(iter(self._blocks.values())).held))

    def forget(self, rows: set[Hashable]) -> None:
        """Drop the states of these rows."""
        self._remove([key for key in self._where if key[0] in rows])

    def forget_bridged(self) -> None:
        """Drop the states that bridges led to: those of other bridges differ."""
        self._remove([key for key in self._where if any(step < 0 for step in key[1])])

    def clear(self) -> None:
        """Drop everything."""
        self._remove(list(self._where))

    def _used(self, key: StateKey) -> tuple[_Block, int]:
        number, index = self._where[key]
        self._blocks.move_to_end(number)
        return self._blocks[number], index

    def _remove(self, keys: Iterable[StateKey]) -> None:
        """Drop states, and each block whose last state is dropped."""
        for key in keys:
            number, _ = self._where.pop(key)
            block = self._blocks[number]
            block.held.remove(key)
            if not block.held:
                del self._blocks[number]
                self.nbytes -= block.nbytes
