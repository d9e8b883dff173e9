"""Plans of shared execution, run on symbols: each state once, from its parent, in a slot nobody else is using."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set

from hypothesis import given
from hypothesis import strategies as st

from pathgen.engine.sharing import Plan, StateKey, plan_sharing
from pathgen.paths.layer_path import LayerPath

NUM_LAYERS = 4
ROWS: dict[Hashable, int] = {"a": 0, "b": 1, "c": 2}

Pair = tuple[str, LayerPath]

PATHS = st.lists(st.integers(0, 2), min_size=NUM_LAYERS, max_size=NUM_LAYERS).map(LayerPath)
PAIRS = st.tuples(st.sampled_from("abc"), PATHS)
ASKED = st.lists(PAIRS, min_size=1, max_size=12)


def beginnings(pair: Pair) -> list[StateKey]:
    """The states along a path, first executed layer first; the embeddings are not among them."""
    row, path = pair
    return [(row, path.executions[:length]) for length in range(1, path.depth + 1)]


@st.composite
def asked_and_kept(draw: st.DrawFn) -> tuple[list[Pair], set[StateKey]]:
    """What is asked, and any subset of its states and of others as what earlier calls have left."""
    asked = draw(ASKED)
    others = draw(st.lists(PAIRS, max_size=3))
    states = sorted({state for pair in asked + others for state in beginnings(pair)}, key=str)
    return asked, {state for state in states if draw(st.booleans())}


def plan_of(asked: Sequence[Pair], kept: Set[StateKey] = frozenset(), max_rows: int = 3) -> Plan:
    return plan_sharing(asked, ROWS, kept.__contains__, max_rows)


def simulate(plan: Plan, kept: Set[StateKey]) -> tuple[list[StateKey], list[StateKey]]:
    """Run a plan over a pool of symbols, checking each step; the states computed, and those in the final slots."""
    pool: dict[int, StateKey] = {}
    computed: list[StateKey] = []
    loaded: list[StateKey] = []

    def load(loads: list[tuple[int, StateKey]]) -> None:
        for slot, state in loads:
            assert not state[1] or state in kept, "only embeddings and kept states can be loaded"
            loaded.append(state)
            assert slot not in pool, "a loaded state finds its slot as it was made: zero beyond its own tokens"
            pool[slot] = state

    for step in plan.steps:
        load(step.loads)
        parents = [pool[slot] for slot in step.sources]
        assert [(row, (*executed, step.layer)) for row, executed in parents] == step.states
        assert step.rows == [ROWS[row] for row, _ in step.states]
        assert len(set(step.targets)) == len(step.targets)
        computed += step.states
        pool.update(zip(step.targets, step.states, strict=True))
    load(plan.last_loads)
    assert len(set(loaded)) == len(loaded), "nothing is loaded twice"
    assert set(pool) <= set(range(plan.num_slots))
    return computed, [pool[slot] for slot in plan.finals]


@given(ASKED, st.integers(1, 5))
def test_each_state_is_computed_once(asked: list[Pair], max_rows: int) -> None:
    plan = plan_of(asked, max_rows=max_rows)
    computed, finals = simulate(plan, set())
    assert finals == [(row, path.executions) for row, path in asked]
    assert len(computed) == len(set(computed)) == plan.layers_run
    assert set(computed) == {state for pair in asked for state in beginnings(pair)}
    assert all(len(step.states) <= max_rows for step in plan.steps)


@given(asked_and_kept())
def test_each_path_enters_at_its_own_longest_kept_beginning(case: tuple[list[Pair], set[StateKey]]) -> None:
    asked, kept = case
    computed, finals = simulate(plan_of(asked, kept), kept)
    assert finals == [(row, path.executions) for row, path in asked]
    needed = set()
    for pair in asked:
        states = beginnings(pair)
        last_kept = max((place for place, state in enumerate(states) if state in kept), default=-1)
        needed.update(states[last_kept + 1 :])
    assert len(computed) == len(set(computed))
    assert set(computed) == needed


@given(ASKED)
def test_layers_run_in_order_first_executions_before_repeats(asked: list[Pair]) -> None:
    order = [(step.layer, executed.count(step.layer)) for step in plan_of(asked).steps for _, executed in step.states]
    assert order == sorted(order)


@given(PAIRS)
def test_one_path_needs_one_slot(pair: Pair) -> None:
    assert plan_of([pair]).num_slots == 1


def test_slots_are_given_out_again() -> None:
    """Paths that share all but their ends never hold more states than they end with, and the one they part at."""
    asked = [("a", LayerPath((1, 1, 1, last))) for last in (0, 1, 2)]
    assert plan_of(asked).num_slots <= 4


def test_a_plan_by_hand() -> None:
    full, repeated = LayerPath((1, 1, 1, 1)), LayerPath((1, 1, 2, 0))
    plan = plan_of([("a", full), ("a", repeated), ("a", full)])
    assert [(step.layer, step.states) for step in plan.steps] == [
        (0, [("a", (0,))]),
        (1, [("a", (0, 1))]),
        (2, [("a", (0, 1, 2))]),
        (2, [("a", (0, 1, 2, 2))]),
        (3, [("a", (0, 1, 2, 3))]),
    ]
    assert plan.finals[0] == plan.finals[2] != plan.finals[1]
