"""Plans on the CPU which layer runs many paths share, so that each unique state is computed once.

The key of a state is its row and the steps that led to it, in order. A skip without a bridge is no step, a bridged
one is, and a repeat starts from the state after one execution. Paths with the same steps so far share all states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..paths.layer_path import LayerPath

StateKey = tuple[Hashable, tuple[int, ...]]
"""(row key, steps so far): `layer` for an execution, `~layer` for a bridge."""


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
        bridged: whether the layer's bridge runs instead of the layer.
    """

    layer: int
    bridged: bool
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
        """Number of states that layers compute: layer executions after sharing."""
        return sum(len(step.states) for step in self.steps if not step.bridged)


def steps_of(actions: Sequence[int], bridged: bool) -> tuple[int, ...]:
    """The steps of the first layers of a path: executions, and with `bridged` its skipped layers' bridges."""
    return tuple(
        layer if action else ~layer for layer, action in enumerate(actions) for _ in range(action or int(bridged))
    )


def is_bridge(state: StateKey) -> bool:
    """Whether the state's last step is a bridge."""
    return state[1][-1] < 0


def states_to(end: StateKey) -> Iterator[StateKey]:
    """The states that lead to `end`, from `end` back to the first step's, without the embeddings."""
    row, steps = end
    for length in range(len(steps), 0, -1):
        yield row, steps[:length]


def plan_sharing(
    asked: Sequence[tuple[Hashable, LayerPath]],
    row_index: dict[Hashable, int],
    is_kept: Callable[[StateKey], bool],
    max_rows: int,
    bridged: bool = False,
) -> Plan:
    """Plan the execution of many (row key, path) pairs, with each shared state computed once.

    Args:
        asked: the pairs; equal pairs run once.
        row_index: index of each row in the batch.
        is_kept: whether a state of an earlier call is still held.
        max_rows: most states in one step.
        bridged: whether bridges run where a path skips.
    """
    ends = [(key, steps_of(path, bridged)) for key, path in asked]
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
    groups: dict[tuple[int, bool, bool], list[StateKey]] = defaultdict(list)
    for state in computed:
        steps = state[1]
        groups[(_layer(state), is_bridge(state), steps[-2:-1] == steps[-1:])].append(state)
    for _, states in sorted(groups.items()):
        for start in range(0, len(states), max_rows):
            yield states[start : start + max_rows]


def _layer(state: StateKey) -> int:
    last = state[1][-1]
    return last if last >= 0 else ~last


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
    rows = [row_index[key] for key, _ in states]
    return Step(_layer(states[0]), is_bridge(states[0]), loads, sources, targets, rows, states)
