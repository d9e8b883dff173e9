"""The order of moves that the layers' influence gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath, Move, all_moves
from pathgen.paths.records import Evaluation
from pathgen.search.path_search import PathSearch, SearchSettings
from pathgen.search.prior import STEEPNESS, move_weights

ONES, TWOS = (0.9, 0.1, 0.4), (0.8, 0.2)
"""Of three layers, and of the two pairs: layer 1 changes least, and the pair of layers 1 and 2."""
INFLUENCE = (*ONES, *TWOS)


def skip(layer: int, width: int = 1) -> Move:
    return Move(layer, LayerAction.SKIP, width)


def repeat(layer: int) -> Move:
    return Move(layer, LayerAction.REPEAT)


def ordered(weights: dict[Move, float]) -> list[Move]:
    return sorted(weights, key=lambda move: -weights[move])


def test_a_right_answer_wants_what_saves_most_and_changes_least():
    weights = move_weights(INFLUENCE)
    assert set(weights) == set(all_moves(3))
    assert ordered(weights)[:5] == [skip(1, 2), skip(1), skip(2), skip(0, 2), skip(0)]
    assert weights[skip(1, 2)] == 1.0
    assert weights[skip(2)] == pytest.approx(math.exp(-STEEPNESS))  # rank ½, and ½ for the single layer
    assert {weights[repeat(layer)] for layer in range(3)} == {math.exp(-2 * STEEPNESS)}


def test_a_single_layer_has_an_order_too():
    assert set(move_weights((0.3,))) == set(all_moves(1))


def searched(base_correct: bool, influence: tuple[float, ...] | None) -> PathSearch:
    """A search that knows its full path."""
    search = PathSearch(3, SearchSettings(parallel_leaves=1), CostModel.layers(3), np.random.default_rng(0))
    (full,) = search.ask()
    search.influence = influence
    search.tell(full, Evaluation(full, base_correct, 1.0 if base_correct else -1.0))
    return search


def test_a_search_of_a_right_answer_tries_moves_in_that_order():
    search = searched(True, INFLUENCE)
    weights = move_weights(INFLUENCE)
    legal = [weights[move] for move, _ in search.tree.root.moves]
    assert legal == sorted(legal, reverse=True)
    assert search.ask() == [skip(1, 2).apply(LayerPath.full(3))]


@pytest.mark.parametrize(("base_correct", "influence"), [(False, INFLUENCE), (True, None), (False, None)])
def test_all_moves_weigh_the_same_if_it_is_wrong_or_nothing_was_measured(base_correct, influence):
    search = searched(base_correct, influence)
    assert {weight for _, weight in search.tree.root.moves} == {1.0}
