"""The actions of a layer, a path through all layers, and the moves of a search."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from operator import index

_LETTERS = "-.2"
"""Of a path's text, by action."""
_ACTIONS = {letter: action for action, letter in enumerate(_LETTERS)} | {"0": 0, "1": 1}


class LayerAction(IntEnum):
    """The action of one layer. The integer is the number of executions, so the sum of a path is its depth."""

    SKIP = 0
    EXECUTE = 1
    REPEAT = 2


class LayerPath(tuple[int, ...]):
    """One LayerAction per layer, first layer first. Immutable, hashable, ordered lexicographically.

    Raises:
        ValueError: the path is empty, or an entry is not a LayerAction.
    """

    __slots__ = ()

    def __new__(cls, actions: Iterable[int]) -> LayerPath:
        """Check the actions."""
        try:
            path = super().__new__(cls, map(index, actions))
        except TypeError as error:
            raise ValueError(f"a path is a sequence of whole numbers, one per layer: {error}") from error
        if not path:
            raise ValueError("a path needs at least one layer")
        if bad := [a for a in path if a not in (0, 1, 2)]:
            raise ValueError(f"a layer is skipped (0), executed (1) or repeated (2); got {bad[0]}")
        return path

    @classmethod
    def full(cls, num_layers: int) -> LayerPath:
        """The path of the model as published: every layer once."""
        return cls((LayerAction.EXECUTE,) * num_layers)

    @classmethod
    def parse(cls, text: str) -> LayerPath:
        """The path of its text, the inverse of `str`; a list of actions, as `[1, 0, 2]`, is read too.

        Raises:
            ValueError: the text has other characters, or no layer.
        """
        letters = [letter for letter in text if not letter.isspace() and letter not in ",[]()"]
        if unknown := [letter for letter in letters if letter not in _ACTIONS]:
            raise ValueError(f"a path is written with . executed, - skipped, 2 repeated; got {unknown[0]!r}")
        return cls(_ACTIONS[letter] for letter in letters)

    @classmethod
    def from_executions(cls, executions: Iterable[int], num_layers: int) -> LayerPath:
        """The path of these layer indices, in the order they run (the inverse of `executions`).

        Raises:
            ValueError: the indices do not ascend or are out of range, or a layer runs more than twice.
        """
        indices = list(executions)
        if indices != sorted(indices):
            raise ValueError(f"layers must run in ascending order; got {indices}")
        counts = [indices.count(layer) for layer in range(num_layers)]
        if len(indices) != sum(counts):
            raise ValueError(f"layer indices must lie in 0..{num_layers - 1}; got {indices}")
        return cls(counts)

    @property
    def depth(self) -> int:
        """Layer executions of one forward pass."""
        return sum(self)

    @property
    def edits(self) -> int:
        """Number of actions that are not EXECUTE."""
        return len(self) - self.count(LayerAction.EXECUTE)

    @property
    def executions(self) -> tuple[int, ...]:
        """Layer indices in the order they run; a repeated layer occurs twice."""
        return tuple(layer for layer, times in enumerate(self) for _ in range(times))

    def __str__(self) -> str:
        # One character per layer: `.` executed, `-` skipped, `2` repeated.
        return "".join(_LETTERS[action] for action in self)


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """A change of a path: `width` adjacent EXECUTE layers, starting at `layer`, become `action`.

    Width 2 exists for SKIP only. No move undoes an edit.
    """

    layer: int
    action: LayerAction
    width: int = 1

    def fits(self, path: LayerPath) -> bool:
        """Whether all layers of the move are still EXECUTE."""
        return all(action == LayerAction.EXECUTE for action in path[self.layer : self.layer + self.width])

    def apply(self, path: LayerPath) -> LayerPath:
        """The path after the move."""
        end = self.layer + self.width
        return LayerPath(path[: self.layer] + (int(self.action),) * self.width + path[end:])

    def __str__(self) -> str:
        # For example `skip 4`, `skip 4-5`, `repeat 12`.
        span = f"{self.layer}" if self.width == 1 else f"{self.layer}-{self.layer + self.width - 1}"
        return f"{self.action.name.lower()} {span}"


def all_moves(num_layers: int, pinned: Collection[int] = ()) -> tuple[Move, ...]:
    """Every move on `num_layers` layers, in a fixed order: skips, adjacent pairs of skips, repeats.

    None changes a layer of `pinned`, which always executes once.
    """
    moves = (
        *(Move(layer, LayerAction.SKIP) for layer in range(num_layers)),
        *(Move(layer, LayerAction.SKIP, 2) for layer in range(num_layers - 1)),
        *(Move(layer, LayerAction.REPEAT) for layer in range(num_layers)),
    )
    if not pinned:
        return moves
    return tuple(move for move in moves if not set(pinned) & set(range(move.layer, move.layer + move.width)))
