"""Paths and moves: what they are, and what is none."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathgen.paths.layer_path import LayerAction, LayerPath, Move, all_moves

paths = st.lists(st.sampled_from(list(LayerAction)), min_size=1, max_size=12).map(LayerPath)


@given(paths)
def test_a_path_is_the_layers_it_runs_in_order(path):
    run = [layer for layer, action in enumerate(path) for _ in range(action)]
    assert list(path.executions) == run
    assert path.depth == len(run)
    assert path.edits == sum(action != LayerAction.EXECUTE for action in path)
    assert LayerPath.from_executions(run, len(path)) == path
    assert pickle.loads(pickle.dumps(path)) == path
    assert LayerPath(np.array(path)) == path
    assert hash(LayerPath(list(path))) == hash(path)


@given(paths)
def test_a_path_is_written_with_one_sign_a_layer(path):
    signs = {"-": LayerAction.SKIP, ".": LayerAction.EXECUTE, "2": LayerAction.REPEAT}
    assert LayerPath(signs[sign] for sign in str(path)) == path
    assert LayerPath.parse(f" {path}\n") == LayerPath.parse(str(list(path))) == LayerPath.parse(repr(path)) == path


@pytest.mark.parametrize(
    ("text", "says"), [("..x", "got 'x'"), ("3", "got '3'"), ("", "at least one"), ("[ ]", "at least")]
)
def test_a_text_that_is_no_path_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        LayerPath.parse(text)


@pytest.mark.parametrize("actions", [[], [3], [-1, 1], [1.5], ["1"], [None]])
def test_what_is_no_path_is_refused(actions):
    with pytest.raises(ValueError, match=r"a path|a layer"):
        LayerPath(actions)


@pytest.mark.parametrize("executions", [[1, 0], [0, 0, 0], [0, 3], [-1]])
def test_layers_that_no_path_runs_are_refused(executions):
    with pytest.raises(ValueError, match="layer"):
        LayerPath.from_executions(executions, 3)


@given(st.integers(1, 9), st.data())
def test_a_move_changes_its_layers_and_no_other(num_layers, data):
    full = LayerPath.full(num_layers)
    move = data.draw(st.sampled_from(all_moves(num_layers)))
    changed = move.apply(full)
    span = range(move.layer, move.layer + move.width)
    assert [changed[layer] for layer in span] == [move.action] * move.width
    assert [action for layer, action in enumerate(changed) if layer not in span] == [1] * (num_layers - move.width)


def test_moves_are_all_skips_pairs_of_skips_and_repeats_once():
    moves = all_moves(4)
    assert len(set(moves)) == len(moves) == 4 + 3 + 4
    assert {str(move) for move in moves} >= {"skip 0", "skip 2-3", "repeat 3"}
    assert Move(1, LayerAction.SKIP, 2) in moves
