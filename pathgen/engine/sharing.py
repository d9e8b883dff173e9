"""Plans on the CPU which layer runs many paths share, so that each unique state is computed once.

The key of a state is its row and the layers executed so far, in order. A skip changes no state, and a repeat starts
from the state after one execution. Paths that have executed the same layers therefore share all states so far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..paths.layer_path import LayerPath

StateKey = tuple[Hashable, tuple[int, ...]]
"""(row key, indices of the layers executed so far)."""


@dataclass(slots=True)
class Step:
    """One call of one layer on a batch of states, which are stored in numbered slots of a pool.

    Attributes:
        loads: (slot, state) to put into the pool before this step: embeddings and kept states. These slots are
            new: each freed slot goes to a target of the step that freed it.
        sources: slots read.
        targets: slots written, one for each source (they may overlap, because all sources are read first).
        rows: index of each state's row in the batch.
        states: computed by this step, one for each target.
    """

    layer: int
    loads: list[tuple[int, StateKey]]
    sources: list[int]
    targets: list[int]
    rows: list[int]
    states: list[StateKey]


@dataclass(slots=True)
class Plan:
    """Steps in order, the loads after them, and the slot of the final state of each asked (row, path)."""

    steps: list[Step]
    last_loads: list[tuple[int, StateKey]]
    finals: list[int]
    num_slots: int

    @property
    def layers_run(self) -> int:
        """Number of states computed: layer executions after sharing."""
        return sum(len(step.states) for step in self.steps)


def states_to(end: StateKey) -> Iterator[StateKey]:
    """The states that lead to `end`, from `end` back to the first executed layer's, without the embeddings."""
    row, executions = end
    for length in range(len(executions), 0, -1):
        yield row, executions[:length]


def plan_sharing(
    asked: Sequence[tuple[Hashable, LayerPath]],
    row_index: dict[Hashable, int],
    is_kept: Callable[[StateKey], bool],
    max_rows: int,
) -> Plan:
    """Plan the execution of many (row key, path) pairs, with each shared state computed once.

    Args:
        asked: the pairs; equal pairs run once.
        row_index: index of each row in the batch.
        is_kept: whether a state of an earlier call is still held.
        max_rows: most states in one step.
    """
    ends = [(key, path.executions) for key, path in asked]
    computed: dict[StateKey, None] = {}  # in the order found
    uses: dict[StateKey, int] = defaultdict(int)
    for end in dict.fromkeys(ends):
        uses[end] += 1  # a final state stays until the end
        for state in takewhile(lambda state: not is_kept(state), states_to(end)):
            if state not in computed:
                computed[state] = None
                uses[_parent(state)] += 1

    pool = _Slots()
    steps = [_step(states, row_index, uses, pool) for states in _batches(computed, max_rows)]
    last_loads = [(pool.load(end), end) for end in dict.fromkeys(ends) if end not in pool.where]
    return Plan(steps, last_loads, [pool.where[end] for end in ends], pool.size)


def _parent(state: StateKey) -> StateKey:
    return state[0], state[1][:-1]


def _batches(computed: Iterable[StateKey], max_rows: int) -> Iterator[list[StateKey]]:
    """Batches of states of the same layer, in the order they run: layer by layer, first executions before repeats."""
    groups: dict[tuple[int, bool], list[StateKey]] = defaultdict(list)
    for state in computed:
        executions = state[1]
        groups[(executions[-1], executions[-2:-1] == executions[-1:])].append(state)
    for _, states in sorted(groups.items()):
        for start in range(0, len(states), max_rows):
            yield states[start : start + max_rows]


class _Slots:
    """Numbered places for states; a freed one is reused."""

    def __init__(self) -> None:
        self.where: dict[StateKey, int] = {}
        self.free: list[int] = []
        self.size = 0

    def load(self, state: StateKey) -> int:
        if not self.free:
            self.free.append(self.size)
            self.size += 1
        slot = self.where[state] = self.free.pop()
        return slot


def _step(states: list[StateKey], row_index: dict[Hashable, int], uses: dict[StateKey, int], pool: _Slots) -> Step:
    parents = [_parent(state) for state in states]
    loads = [(pool.load(parent), parent) for parent in dict.fromkeys(parents) if parent not in pool.where]
    sources = [pool.where[parent] for parent in parents]
    for parent in parents:
        uses[parent] -= 1
        if not uses[parent]:
            pool.free.append(pool.where.pop(parent))
    targets = [pool.load(state) for state in states]
    layer = states[0][1][-1]
    return Step(layer, loads, sources, targets, [row_index[key] for key, _ in states], states)
