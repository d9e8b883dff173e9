"""Token rows: what is run, what is scored, and who sees whom."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pathgen.engine.token_rows import PROMPT, Row, packed_row, plain_rows, scored_positions

TOKENS = st.lists(st.integers(0, 999), min_size=1, max_size=6)


def sequence_of(row: Row, token: int, window: int | None = None) -> list[int]:
    """The tokens that a token sees, itself last, as the model would read them."""
    return row.ids[row.visible(window)[token]].tolist()


def scored_contexts(row: Row) -> list[tuple[int, int, tuple[int, ...]]]:
    """(choice, target, all tokens before it) of each scored token."""
    return [
        (int(owner), int(target), tuple(sequence_of(row, int(row.scored[at]))))
        for owner, target, at in zip(row.owners, row.targets, row.predicts, strict=True)
    ]


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=4))
def test_each_target_is_predicted_from_exactly_what_stands_before_it(
    prompt: list[int], choices: list[list[int]]
) -> None:
    wanted = [
        (owner, target, (*prompt, *choice[:place]))
        for owner, choice in enumerate(choices)
        for place, target in enumerate(choice)
    ]
    assert scored_contexts(packed_row("q", prompt, choices)) == wanted
    plain = plain_rows("q", prompt, choices)
    assert [context for row in plain for context in scored_contexts(row)] == wanted
    assert len({row.key for row in plain}) == len(choices)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=4))
def test_only_tokens_that_something_needs_are_run(prompt: list[int], choices: list[list[int]]) -> None:
    row = packed_row("q", prompt, choices)
    assert len(row) == len(prompt) + sum(len(choice) - 1 for choice in choices)
    assert len(set(row.scored.tolist())) == len(row.scored), "the prompt's last token is scored once for all choices"
    assert len(row.scored) == 1 + len(row) - len(prompt)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=3), st.integers(1, 8))
def test_positions_go_on_from_the_prompt_and_the_window_counts_them(
    prompt: list[int], choices: list[list[int]], window: int
) -> None:
    row = packed_row("q", prompt, choices)
    for token in range(len(row)):
        seen = sequence_of(row, token)
        assert row.positions[token] == len(seen) - 1
        assert sequence_of(row, token, window) == seen[-window:]
        owner = row.branch[token]
        kin = row.branch[row.visible(None)[token]]
        assert set(kin.tolist()) <= {PROMPT, int(owner)}


def test_a_row_by_hand() -> None:
    row = packed_row("q", [5, 6], [[7, 8, 9], [7]])
    assert row.ids.tolist() == [5, 6, 7, 8]
    assert row.positions.tolist() == [0, 1, 2, 3]
    assert row.branch.tolist() == [PROMPT, PROMPT, 0, 0]
    assert row.scored.tolist() == [1, 2, 3]
    assert row.predicts.tolist() == [0, 1, 2, 0]
    assert row.targets.tolist() == [7, 8, 9, 7]
    assert row.owners.tolist() == [0, 0, 0, 1]
    assert np.array_equal(row.visible(None), np.tri(4, dtype=bool))


def test_what_rows_score_stands_one_row_after_another():
    rows = [packed_row("a", [1, 2, 3], [[4, 5], [6]]), packed_row("b", [7, 8], [[9]])]
    owners, tokens, predicts, targets = (array.tolist() for array in scored_positions(rows))
    assert owners == [0, 0, 1]
    assert tokens == [2, 3, 1]
    assert predicts == [0, 1, 0, 2]
    assert targets == [4, 5, 6, 9]
