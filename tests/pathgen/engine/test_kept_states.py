"""Kept states against a plain model of them: right values, bounded bytes, least recently used out first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pathgen.engine.kept_states import KeptStates
from pathgen.engine.sharing import StateKey
from pathgen.slots.layer_slots import Content

TOKENS, WIDTH = 3, 2
STATE_BYTES = TOKENS * WIDTH * 4
MAX_STATES = 7


def block(first: int, count: int) -> torch.Tensor:
    """[count, T, H] states that can be told apart: all entries are the state's number."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None, None].expand(-1, TOKENS, WIDTH).clone()


class KeptStatesMachine(RuleBasedStateMachine):
    """Random puts, reads and forgets, beside a list of blocks from the least to the most recently used."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = KeptStates(MAX_STATES * STATE_BYTES)
        self.blocks: list[tuple[int, dict[StateKey, int]]] = []  # (states allocated, key -> number)
        self.seen: list[StateKey] = []

    @rule(row=st.sampled_from("abc"), count=st.integers(1, MAX_STATES + 1), mixed=st.booleans())
    def put(self, row: str, count: int, mixed: bool) -> None:
        first = len(self.seen)
        keys: list[StateKey] = [
            ("abc"[(number + ord(row)) % 3] if mixed else row, (number,)) for number in range(first, first + count)
        ]
        self.kept.put(keys, block(first, count))
        self.seen += keys
        if count <= MAX_STATES:
            self.blocks.append((count, {key: first + place for place, key in enumerate(keys)}))
        while sum(size for size, _ in self.blocks) > MAX_STATES:
            self.blocks.pop(0)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        held = [key for _, numbers in self.blocks for key in numbers]
        if not held:
            return
        key = data.draw(st.sampled_from(held))
        place = next(place for place, (_, numbers) in enumerate(self.blocks) if key in numbers)
        self.blocks.append(self.blocks.pop(place))
        state = self.kept[key]
        assert state.shape == (TOKENS, WIDTH)
        assert (state == self.blocks[-1][1][key]).all()

    @rule(rows=st.sets(st.sampled_from("abc"), min_size=1, max_size=2))
    def forget(self, rows: set[str]) -> None:
        self.kept.forget(set(rows))
        for _, numbers in self.blocks:
            for key in [key for key in numbers if key[0] in rows]:
                del numbers[key]
        self.blocks = [(size, numbers) for size, numbers in self.blocks if numbers]

    @rule()
    def clear(self) -> None:
        self.kept.clear()
        self.blocks.clear()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        held = {key for _, numbers in self.blocks for key in numbers}
        assert {key for key in self.seen if key in self.kept} == held
        assert self.kept.nbytes == sum(size for size, _ in self.blocks) * STATE_BYTES <= self.kept.max_bytes


TestKeptStates = KeptStatesMachine.TestCase


def test_the_least_recently_used_block_goes_first() -> None:
    kept = KeptStates(2 * STATE_BYTES)
    first, second, third = (("a", (layer,)) for layer in range(3))
    kept.put([first], block(0, 1))
    kept.put([second], block(1, 1))
    assert kept[first].shape == (TOKENS, WIDTH)
    kept.put([third], block(2, 1))
    assert [key in kept for key in (first, second, third)] == [True, False, True]


def test_nothing_is_kept_without_room() -> None:
    kept = KeptStates(0)
    kept.put([("a", (0,))], block(0, 1))
    assert ("a", (0,)) not in kept
    assert kept.nbytes == 0


def test_states_are_held_without_a_copy() -> None:
    kept = KeptStates(10 * STATE_BYTES)
    states = block(0, 2)
    kept.put([("a", (0,)), ("a", (1,))], states)
    assert kept["a", (1,)].data_ptr() == states[1].data_ptr()


def test_an_unknown_state_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        KeptStates(10)["a", (0,)]


def key_values(first: int, count: int) -> Content:
    """Keys and values [count, heads, T, head_dim] cut out of one fused tensor, as some models make them."""
    fused = torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None].repeat(1, 1, TOKENS, 6)
    return {("keys", 0): fused[..., :2], ("values", 0): fused[..., 2:4]}


def test_fused_keys_and_values_count_with_all_that_they_hold_alive() -> None:
    kept = KeptStates(1000)
    kept.put([("a", (0,))], block(0, 1), key_values(0, 1))
    assert kept.nbytes == STATE_BYTES + TOKENS * 6 * 4
    assert all((part == 0).all() and part.shape == (1, TOKENS, 2) for part in kept.stored(("a", (0,))).values())


def test_the_way_to_a_state_needs_every_state_with_keys_and_values() -> None:
    kept = KeptStates(10_000)
    way = [("a", (0,)), ("a", (0, 2)), ("a", (0, 2, 2))]
    kept.put(way[:2], block(0, 2), key_values(0, 2))
    kept.put(way[2:], block(2, 1))
    assert [kept.holds_way_to(state) for state in way] == [True, True, False]
    kept.put(way[2:], block(2, 1), key_values(2, 1))
    assert kept.holds_way_to(way[2])
    kept.put(way[:1], block(0, 1))
    assert [kept.holds_way_to(state) for state in way] == [False, False, False]


def test_a_state_put_again_is_held_once_and_in_the_new_block() -> None:
    kept = KeptStates(10 * STATE_BYTES)
    first, second = ("a", (0,)), ("a", (1,))
    kept.put([first, second], block(0, 2))
    kept.put([first], block(7, 1))
    assert (kept[first] == 7).all()
    assert (kept[second] == 1).all()
    assert kept.nbytes == 3 * STATE_BYTES
    kept.put([second], block(8, 1))
    assert kept.nbytes == 2 * STATE_BYTES, "the first block holds nobody any more"
    kept.forget({"a"})
    assert kept.nbytes == 0
