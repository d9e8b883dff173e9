import math
from collections import Counter

import numpy as np
import pytest

from benchmarks.published.chain import Node, chain_search, moves

LAYERS = 12
FULL = tuple(range(LAYERS))


def rng(seed=0):
    return np.random.default_rng(seed)


def never_right(layers):
    return False


def nodes(root):
    yield root
    for child in root.children:
        yield from nodes(child)


@pytest.mark.parametrize("seed", range(20))
def test_the_tree_is_a_chain(seed):
    """Right and wrong answers, but no right one that saves two layers, so that the stop rule never fires."""
    num_layers = 60  # more than 50 moves can use up

    def longer_paths_are_right(layers):
        return len(layers) > num_layers - 2

    search = chain_search(longer_paths_are_right, num_layers, simulations=50, rng=rng(seed))
    chain = list(nodes(search.root))
    assert not search.early
    assert max(len(node.children) for node in chain) == 1
    assert len(chain) == 50, "the full path, and one node for each later simulation"
    assert [node.visits for node in chain] == list(range(50, 0, -1))


def test_score_by_hand():
    node = Node(layers=(0, 1, 2, 3, 4, 5), untried=[], visits=4, rewards=3.0)
    assert node.score(simulation=10, num_layers=8) == pytest.approx(
        0.75 + 1.8 * math.sqrt(math.log(10) / 4) - 3.0 * 6 / 8
    )


def test_moves_of_the_full_path():
    """n single skips, n - 1 double skips, n repeats, and n that change nothing."""
    found = moves(FULL, rng())
    assert Counter(map(len, found)) == {
        LAYERS - 1: LAYERS,
        LAYERS - 2: LAYERS - 1,
        LAYERS: LAYERS,
        LAYERS + 1: LAYERS,
    }
    assert found.count(FULL) == LAYERS
    assert len(set(found)) == 3 * LAYERS


def test_a_repeated_layer_is_not_repeated_again_but_may_be_skipped():
    found = moves((0, 1, 1, 2), rng())
    assert max(layers.count(1) for layers in found) == 2
    assert (0, 1, 2) in found
    assert (0, 0, 1, 1, 2) in found


def test_a_wrong_base_stops_at_the_first_right_path():
    search = chain_search(lambda layers: len(layers) < LAYERS, LAYERS, simulations=50, rng=rng())
    *wrong, last = search.evaluated.items()
    assert search.early
    assert len(last[0]) < LAYERS
    assert last[1]
    assert not any(correct for _, correct in wrong)


def test_a_right_base_stops_once_two_layers_are_saved():
    search = chain_search(lambda layers: True, LAYERS, simulations=50, rng=rng(3))
    *before, last = search.evaluated
    assert search.early
    assert len(last) <= LAYERS - 2
    assert all(len(layers) > LAYERS - 2 for layers in before)


def test_each_path_is_evaluated_once_and_moves_that_change_nothing_still_spend_simulations():
    asked = []

    def note(layers):
        asked.append(layers)
        return False

    search = chain_search(note, LAYERS, simulations=50, rng=rng())
    assert asked == list(search.evaluated)
    assert len(set(asked)) == len(asked)
    assert len(asked) < search.simulations == 50


def test_seed_decides_the_search():
    same, again, other = (
        list(chain_search(never_right, LAYERS, simulations=20, rng=rng(seed)).evaluated) for seed in (1, 1, 2)
    )
    assert same == again
    assert same != other


def test_an_emptied_path_has_no_moves_and_ends_the_chain():
    search = chain_search(never_right, 2, simulations=60, rng=rng())
    *_, end = nodes(search.root)
    assert end.layers == ()
    assert end.visits > 1
    assert search.simulations == 60
