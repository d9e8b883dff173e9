"""The paths of training-free systems: what they keep of a router's paths, and what they do not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer.systems.fixed_paths import derangement, random_paths, repeat_paths, shuffled_paths
from pathgen.paths.layer_path import LayerPath

PATHS = st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6).map(LayerPath), min_size=2, max_size=20)


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_nothing_stays_in_its_place(count, seed):
    order = derangement(count, np.random.default_rng(seed))
    assert sorted(order) == list(range(count))
    assert all(place != source for place, source in enumerate(order))


def test_every_cycle_can_come():
    seen = {tuple(derangement(4, np.random.default_rng(seed))) for seed in range(200)}
    assert len(seen) == 6  # the (4 − 1)! cycles through all four


@given(PATHS, st.integers(0, 2**32))
def test_shuffling_keeps_how_often_each_path_is_taken(paths, seed):
    dealt = shuffled_paths(paths, seed)
    assert Counter(dealt) == Counter(paths)
    assert dealt == shuffled_paths(paths, seed)


def test_distinct_paths_all_go_to_other_questions():
    paths = [LayerPath([1] * place + [0] * (9 - place)) for place in range(1, 10)]
    assert all(new != old for new, old in zip(shuffled_paths(paths, 5), paths, strict=True))


def test_one_question_cannot_be_shuffled():
    with pytest.raises(ValueError, match="at least two"):
        shuffled_paths([LayerPath([1, 1])], 0)


@given(PATHS, st.integers(0, 2**32))
def test_random_paths_are_as_deep_with_as_many_of_each_action(paths, seed):
    ids = [f"q{number}" for number in range(len(paths))]
    drawn = random_paths(paths, ids, seed)
    assert [sorted(path) for path in drawn] == [sorted(path) for path in paths]
    assert random_paths(paths[::-1], ids[::-1], seed) == drawn[::-1]  # a draw is the question's own


def test_random_paths_differ_by_question_and_seed():
    paths = [LayerPath([0, 0, 1, 1, 1, 1, 1, 1, 1, 2])] * 30
    ids = [f"q{number}" for number in range(30)]
    assert len(set(random_paths(paths, ids, 0))) > 20
    assert random_paths(paths, ids, 0) != random_paths(paths, ids, 1)


def test_the_repeated_block_lies_in_the_middle():
    assert {size: str(path) for size, path in repeat_paths(12).items()} == {
        1: ".....2......",
        2: ".....22.....",
        3: "....222.....",
        4: "....2222....",
    }
    assert {size: path.depth for size, path in repeat_paths(30).items()} == {1: 31, 4: 34, 7: 37, 10: 40}
    assert {size: str(path) for size, path in repeat_paths(2).items()} == {1: "2."}


def test_pinned_layers_keep_their_action():
    paths = [LayerPath([0, 0, 1, 2, 1, 1])] * 20
    drawn = random_paths(paths, [f"q{number}" for number in range(20)], 0, pinned=(2, 4))
    assert {path[2] for path in drawn} == {path[4] for path in drawn} == {1}
    assert {tuple(sorted(path)) for path in drawn} == {(0, 0, 1, 1, 1, 2)}
    assert str(repeat_paths(12, pinned=(5,))[4]) == "....2.22...."
