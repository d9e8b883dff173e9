"""The order of moves that the layers' influence gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath, Move, all_moves
from pathgen.paths.records import Evaluation
from pathgen.search.path_search import PathSearch, SearchSettings
from pathgen.search.prior import STEEPNESS_IF_RIGHT, STEEPNESS_IF_WRONG, move_weights

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
    weights = move_weights(INFLUENCE, base_correct=True)
    assert set(weights) == set(all_moves(3))
    assert ordered(weights)[:5] == [skip(1, 2), skip(1), skip(2), skip(0, 2), skip(0)]
    assert weights[skip(1, 2)] == 1.0
    assert weights[skip(2)] == pytest.approx(math.exp(-STEEPNESS_IF_RIGHT))  # rank ½, and ½ for the single layer
    assert {weights[repeat(layer)] for layer in range(3)} == {math.exp(-2 * STEEPNESS_IF_RIGHT)}


def test_a_wrong_answer_wants_what_changes_most():
    weights = move_weights(INFLUENCE, base_correct=False)
    assert [weights[skip(layer)] for layer in range(3)] == [weights[repeat(layer)] for layer in range(3)]
    assert weights[skip(0)] == weights[skip(0, 2)] == pytest.approx(math.exp(STEEPNESS_IF_WRONG))
    assert weights[skip(2)] == pytest.approx(1.0)
    assert weights[skip(1)] == weights[skip(1, 2)] == pytest.approx(math.exp(-STEEPNESS_IF_WRONG))


def test_a_single_layer_has_an_order_too():
    assert set(move_weights((0.3,), base_correct=True)) == set(all_moves(1))


@pytest.mark.parametrize(("base_correct", "first"), [(True, skip(1, 2)), (False, skip(0, 2))])
def test_a_search_tries_moves_in_that_order(base_correct, first):
    search = PathSearch(3, SearchSettings(parallel_leaves=1), CostModel.layers(3), np.random.default_rng(0))
    (full,) = search.ask()
    search.influence = INFLUENCE
    search.tell(full, Evaluation(full, base_correct, 1.0 if base_correct else -1.0))
    weights = move_weights(INFLUENCE, base_correct=base_correct)
    legal = [weights[move] for move, _ in search.tree.root.moves]
    assert legal == sorted(legal, reverse=True)
    (asked,) = search.ask()
    assert weights[first] == max(legal)
    assert asked in {move.apply(full) for move, _ in search.tree.root.moves if weights[move] == max(legal)}


def test_without_influence_all_moves_weigh_the_same():
    search = PathSearch(3, SearchSettings(), CostModel.layers(3), np.random.default_rng(0))
    search.tell(LayerPath.full(3), Evaluation(search.ask()[0], True, 1.0))
    assert {weight for _, weight in search.tree.root.moves} == {1.0}
