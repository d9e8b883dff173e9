"""The tree of a search: scores, widening, transpositions, closing, and one tree kept as it was.

Run this file as a script to write `golden_tree.json` again after a change that means to alter the search:
`python tests/pathgen/search/test_tree.py`.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_toys import cost_models, drive, layer_search, scripted, search_makers, snapshot, tell_all, toy_model

from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath, Move
from pathgen.search.path_search import PathSearch, SearchSettings

GOLDEN = Path(__file__).parent / "golden_tree.json"
ENDLESS = 10**9


def prior_search(prior: dict[Move, float], num_layers: int = 4, **settings) -> PathSearch:
    settings = {"parallel_leaves": 1} | settings
    cost = CostModel.layers(num_layers)
    search = PathSearch(num_layers, SearchSettings(**settings), cost, np.random.default_rng(0))
    search.tree.use_prior(prior)
    return search


def edge_to(search: PathSearch, path: str, child: str):
    node = next(node for key, node in search.tree.nodes.items() if str(key) == path)
    return node, next(edge for edge in node.all_edges() if str(edge.child) == child)


def advance(search: PathSearch, evaluate) -> list[str]:
    return [str(path) for path in tell_all(search, evaluate)]


def test_scores_by_hand():
    """Four layers, 11 moves, of which the prior knows two: 8 and 3 are already of mean 1.

    The full path has margin 0: reward ½·σ(0) − ¼ = 0. Skipping layer 2 is right by ln 3, where σ is ¾:
    reward ½ + ½·¾ − ¼·¾ = 0.6875. The root's value is then 0.34375, and N = 2.
    """
    skip_2, skip_0 = Move(2, LayerAction.SKIP), Move(0, LayerAction.SKIP)
    search = prior_search({skip_2: 8, skip_0: 3}, exploration=0.1)
    evaluate = scripted({"....": 0.0, "..-.": math.log(3)}, otherwise=-1)
    assert advance(search, evaluate) == ["...."]
    assert advance(search, evaluate) == ["..-."]
    assert search.tree.root.value == pytest.approx(0.34375)
    # Told: its own value, 8 · √2 / 2. Not told: the root's value, 3 · √2.
    assert search.tree.score(*edge_to(search, "....", "..-.")) == pytest.approx(0.6875 + 0.5656854249)
    assert search.tree.score(*edge_to(search, "....", "-...")) == pytest.approx(0.34375 + 0.4242640687)
    # A walk that is still out over the first counts in the divisor alone: 8 · √2 / 3.
    search.ask()
    assert search.tree.score(*edge_to(search, "....", "..-.")) == pytest.approx(0.6875 + 0.3771236166)
    # It went on below, where 7 moves are legal and the prior knows one: P = 7, and Q is the parent's value.
    assert search.tree.score(*edge_to(search, "..-.", "-.-.")) == pytest.approx(0.6875 + 0.1 * 7 / 2)


def test_prior_has_mean_one_over_the_legal_moves():
    search = prior_search({Move(0, LayerAction.REPEAT): 5.0, Move(1, LayerAction.SKIP): 0.5})
    drive(search, toy_model(1))
    for node in search.tree.nodes.values():
        shares = [edge.prior for edge in node.all_edges()]
        assert shares == sorted(shares, reverse=True)
        assert not shares or sum(shares) / len(shares) == pytest.approx(1)


def test_without_prior_all_moves_weigh_one():
    search = drive(layer_search(4, simulations=10), toy_model(1))
    assert {edge.prior for node in search.tree.nodes.values() for edge in node.all_edges()} == {1.0}


def test_ties_are_shuffled_by_the_seed():
    def first(seed: int) -> LayerPath:
        search = layer_search(6, seed)
        advance(search, toy_model(0))
        return search.ask()[0]

    assert first(3) == first(3)
    assert len({first(seed) for seed in range(20)}) > 5


@pytest.mark.parametrize(("k", "alpha"), [(1.0, 0.5), (2.0, 0.5), (1.0, 0.0), (0.5, 1.0)])
def test_widening_admits_the_first_moves_in_order(k, alpha):
    search = layer_search(6, parallel_leaves=1, widening_k=k, widening_alpha=alpha, exploration=10.0)
    evaluate = toy_model(2)
    advance(search, evaluate)
    root = search.tree.root
    seen = 0
    for visits in range(1, 41):
        while root.visits == visits and (asked := search.ask()):
            search.tell(asked[0], evaluate(asked[0]))
        tried = [edge.visits > 0 for edge in root.all_edges()]
        seen = max(seen, sum(tried))
        assert not any(tried[max(1, math.ceil(k * (root.visits - 1) ** alpha)) :])
    assert seen == min(len(root.moves), math.ceil(k * 40**alpha))


def test_children_are_built_only_when_widening_looks_at_them():
    search = drive(layer_search(30, simulations=5), toy_model(0))
    assert len(search.tree.root.moves) == 89
    assert len(search.tree.root.edges) < 10


def test_a_path_newly_reached_backs_up_its_reward_without_an_evaluation():
    """`--..` is first reached by two skips in a row; being the best path known, it then draws `skip 0-1`."""
    prior = {Move(0, LayerAction.SKIP): 3.0, Move(1, LayerAction.SKIP): 2.0, Move(0, LayerAction.SKIP, 2): 1.0}
    search = prior_search(prior, exploration=0.0, widening_k=11)
    evaluate = scripted({"--..": 5.0}, otherwise=-5.0)
    assert [advance(search, evaluate) for _ in range(3)] == [["...."], ["-..."], ["--.."]]
    root, shortcut = edge_to(search, "....", "--..")
    best = search.tree.nodes[shortcut.child]
    assert (search.simulations, root.visits, shortcut.visits, best.visits) == (2, 3, 0, 1)
    before = root.reward_sum

    asked = search.ask()
    assert (search.simulations, root.visits, shortcut.visits, best.visits) == (3, 4, 1, 1)
    assert root.reward_sum == before + best.reward
    assert [path[:2] for path in asked] == [(0, 0)]  # the ask went on, to a new path below

    search.tell(asked[0], evaluate(asked[0]))
    assert (search.simulations, root.visits, shortcut.visits, best.visits) == (4, 5, 2, 2)


@given(search_makers(), st.integers(0, 99))
def test_visits_and_rewards_add_up(make, model):
    search = make()
    sums: dict[LayerPath, list[float]] = {}
    add, back_up = search.tree.add, search.tree.back_up

    def logged_add(path, reward):
        sums[path] = [reward]
        add(path, reward)

    def logged_back_up(walk, reward):
        for node, _ in walk:
            sums[node.path].append(reward)
        back_up(walk, reward)

    search.tree.add, search.tree.back_up = logged_add, logged_back_up
    drive(search, toy_model(model))

    incoming: dict[LayerPath, list[int]] = {path: [] for path in search.tree.nodes}
    for path, node in search.tree.nodes.items():
        assert node.visits - 1 == sum(edge.visits for edge in node.edges)
        assert node.visits == len(sums[path])
        assert node.reward_sum == pytest.approx(sum(sums[path]))
        for edge in node.edges:
            assert edge.pending == 0
            if edge.visits:
                incoming[edge.child].append(edge.visits)
    assert search.tree.root.visits == 1 + search.simulations
    # Every walk takes exactly one edge for the first time, its last.
    assert search.simulations == sum(len(visits) for visits in incoming.values())
    # So what arrives beyond that goes on.
    for path, visits in incoming.items():
        if path != search.tree.full:
            assert search.tree.nodes[path].visits - 1 == sum(visits) - len(visits)


def legal_paths(search: PathSearch, cost: CostModel, max_edits: int, max_cost: float) -> set[LayerPath]:
    """By definition, from all 3^L. With skips first and repeats last each is reached without leaving the caps."""
    paths = map(LayerPath, itertools.product(range(3), repeat=len(search.tree.full)))
    return {p for p in paths if p.edits <= max_edits and p.depth >= 1 and cost.cost(p) <= max_cost + 1e-9}


def check_exhausted(num_layers, cost, model, *, max_depth, max_edits, leaves, seed=0):
    settings = SearchSettings(simulations=ENDLESS, max_depth=max_depth, max_edits=max_edits, parallel_leaves=leaves)
    evaluate = toy_model(model)
    search = drive(PathSearch(num_layers, settings, cost, np.random.default_rng(seed)), evaluate)
    assert search.stop_reason == "exhausted"
    assert all(node.closed for node in search.tree.nodes.values())

    wanted = legal_paths(search, cost, max_edits, max_depth)
    assert len(search.evaluations) == len(wanted)
    assert {evaluation.path for evaluation in search.evaluations} == wanted
    right = sorted(
        (round(cost.cost(path), 9), -(evaluate(path).margin or 0), path) for path in wanted if evaluate(path).correct
    )
    best = search.best()
    assert (best and best.path) == (right[0][2] if right else None)


@given(st.data())
@settings(max_examples=40)
def test_exhausting_search_meets_brute_force(data):
    num_layers = data.draw(st.integers(1, 4))
    check_exhausted(
        num_layers,
        data.draw(cost_models(num_layers)),
        data.draw(st.integers(0, 99)),
        max_depth=data.draw(st.integers(num_layers, 2 * num_layers)),
        max_edits=data.draw(st.integers(0, num_layers)),
        leaves=data.draw(st.integers(1, 6)),
        seed=data.draw(st.integers(0, 99)),
    )


@pytest.mark.parametrize(
    ("num_layers", "max_depth", "max_edits"), [(5, 10, 5), (5, 6, 4), (6, 6, 6), (6, 12, 3), (6, 7, 2)]
)
def test_exhausting_search_meets_brute_force_on_more_layers(num_layers, max_depth, max_edits):
    cost = CostModel.layers(num_layers)
    check_exhausted(num_layers, cost, model=7, max_depth=max_depth, max_edits=max_edits, leaves=4)


def test_the_whole_space_of_six_layers():
    check_exhausted(6, CostModel.layers(6), model=1, max_depth=12, max_edits=6, leaves=4)


def test_where_every_layer_is_repeated_or_run_nothing_is_left():
    """One layer may not be skipped (depth 0), so there are two paths, or one where depth is capped."""
    search = drive(layer_search(1), toy_model(0))
    assert [str(evaluation.path) for evaluation in search.evaluations] == [".", "2"]
    assert (search.stop_reason, search.simulations) == ("exhausted", 1)
    search = drive(layer_search(1, max_depth=1), toy_model(0))
    assert (search.stop_reason, search.simulations) == ("exhausted", 0)


def test_only_pending_paths_left_means_a_smaller_ask():
    search = layer_search(2, max_edits=1, max_depth=2, parallel_leaves=9)
    advance(search, toy_model(0))
    assert sorted(map(str, search.ask())) == ["-.", ".-"]
    assert search.stop_reason is None


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({Move(4, LayerAction.SKIP): 1.0}, "4 layers do not have: skip 4"),
        ({Move(3, LayerAction.SKIP, 2): 1.0}, "4 layers do not have: skip 3-4"),
        ({Move(1, LayerAction.REPEAT): -0.5}, "got -0.5 for repeat 1"),
        ({Move(1, LayerAction.REPEAT): math.nan}, "got nan for repeat 1"),
    ],
)
def test_priors_that_cannot_be(prior, message):
    with pytest.raises(ValueError, match=message):
        prior_search(prior)


def golden_tree() -> dict:
    """Counts exactly, rewards to nine digits."""
    search = drive(layer_search(4, seed=5, simulations=40, parallel_leaves=3, widening_k=2), toy_model(3))
    found = snapshot(search)
    for node in found["tree"].values():
        node["reward_sum"] = round(node["reward_sum"], 9)
    found["evaluations"] = [str(evaluation.path) for evaluation in found["evaluations"]]
    return found


def test_golden_tree():
    expected = json.loads(GOLDEN.read_text())
    assert len(expected["evaluations"]) - 1 < expected["simulations"], "it is to hold transpositions"
    assert golden_tree() == expected


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_tree(), indent=1) + "\n")
