"""The promises of the search: ask and tell, budgets and caps, determinism, replay."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_toys import drive, layer_search, scripted, search_makers, tell_all, toy_model

from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath, Move
from pathgen.paths.records import Evaluation
from pathgen.search.path_search import PathSearch, SearchSettings

FULL = LayerPath.full(4)
MODELS = st.integers(0, 99)


# Ask and tell


def test_the_full_path_is_simulation_zero_and_asked_alone():
    search = layer_search(4, simulations=7, parallel_leaves=3)
    assert search.ask() == [FULL]
    assert search.ask() == []
    assert search.base is None
    search.tell(FULL, Evaluation(FULL, correct=True, margin=1.0))
    assert search.base == Evaluation(FULL, correct=True, margin=1.0, simulation=0)
    assert (search.simulations, search.layer_executions) == (0, 4)
    assert len(search.ask()) == 3


def test_nothing_is_asked_while_a_path_is_untold():
    search, evaluate = layer_search(4), toy_model(0)
    tell_all(search, evaluate)
    *told, last = search.ask()
    for path in told:
        search.tell(path, evaluate(path))
        assert search.ask() == []
    assert len(search.evaluations) == 1  # the results wait for the last one
    search.tell(last, evaluate(last))
    assert [evaluation.path for evaluation in search.evaluations] == [FULL, *told, last]
    assert search.ask()


def test_repeated_and_unknown_results_are_ignored():
    search, evaluate = layer_search(4), toy_model(0)
    never_asked = LayerPath([2, 2, 1, 1])
    assert not search.tell(FULL, evaluate(FULL))  # not yet asked
    tell_all(search, evaluate)
    assert not search.tell(FULL, Evaluation(FULL, correct=True, margin=99.0))  # late
    first = search.ask()[0]
    assert search.tell(first, evaluate(first))
    assert not search.tell(first, Evaluation(first, correct=True, margin=99.0))  # early, twice
    assert not search.tell(never_asked, evaluate(never_asked))
    drive(search, evaluate)
    assert 99.0 not in [evaluation.margin for evaluation in search.evaluations]


def test_a_result_of_another_path_is_a_mistake():
    search = layer_search(4)
    search.ask()
    with pytest.raises(ValueError, match=r"evaluation for path \.\.\.\. is of path \.\.\.-"):
        search.tell(FULL, Evaluation(LayerPath([1, 1, 1, 0]), correct=True, margin=1.0))


@given(search_makers(), MODELS)
def test_no_path_is_asked_twice_and_no_cap_is_exceeded(make, model):
    search, evaluate = make(), toy_model(model)
    asked_paths: list[LayerPath] = []
    num_layers = len(search.tree.full)
    cap = make.settings["max_depth"] or num_layers + 4
    while asked := search.ask():
        assert 1 <= len(asked) <= make.settings["parallel_leaves"]
        for path in asked:
            assert path.depth >= 1
            assert path.edits <= make.settings["max_edits"]
            assert make.cost.cost(path) <= cap + 1e-9
            search.tell(path, evaluate(path))
        asked_paths += asked
    assert len(set(asked_paths)) == len(asked_paths)
    assert [evaluation.path for evaluation in search.evaluations] == asked_paths
    assert [evaluation.simulation for evaluation in search.evaluations] == list(range(len(asked_paths)))
    assert len(asked_paths) - 1 <= search.simulations <= make.settings["simulations"]
    assert search.layer_executions == sum(path.depth for path in asked_paths)
    assert search.layer_executions <= (make.settings["layer_budget"] or math.inf)
    assert search.stop_reason in ("budget", "early", "exhausted")
    if search.stop_reason == "budget" and make.settings["layer_budget"] is None:
        assert search.simulations == make.settings["simulations"]
    if search.stop_reason == "early":
        assert make.settings["stop"] == "published"
    assert search.ask() == []


# Budgets and stop rules


def test_a_budget_of_no_simulations_evaluates_the_full_path():
    search = layer_search(4, simulations=0)
    tell_all(search, toy_model(0))
    assert (search.stop_reason, len(search.evaluations)) == ("budget", 1)


def test_a_budget_of_one_simulation():
    search = drive(layer_search(4, simulations=1), toy_model(0))
    assert (search.stop_reason, len(search.evaluations)) == ("budget", 2)


def test_the_first_path_that_does_not_fit_the_layer_budget_ends_the_search():
    """After 4 + 3 layers 2 are left: the next move in order needs 3, though a pair of skips would fit."""
    weights = {Move(0, LayerAction.SKIP): 3.0, Move(1, LayerAction.SKIP): 2.0, Move(0, LayerAction.SKIP, 2): 1.0}
    search = PathSearch(
        4, SearchSettings(layer_budget=9, exploration=0.0), CostModel.layers(4), rng_that_keeps_order(), weights
    )
    evaluate = toy_model(0)
    tell_all(search, evaluate)
    assert [str(path) for path in search.ask()] == ["-..."]
    assert search.stop_reason is None  # a result is still due
    path = LayerPath([0, 1, 1, 1])
    search.tell(path, evaluate(path))
    assert (search.stop_reason, search.layer_executions, search.simulations) == ("budget", 7, 1)


def rng_that_keeps_order():
    class InOrder:
        def permutation(self, count):
            return range(count)

    return InOrder()


@pytest.mark.parametrize(
    ("margins", "otherwise", "stops"),
    [
        ({"....": -1.0}, 1.0, True),  # wrong, then right at any depth
        ({"....": -1.0}, -1.0, False),  # never right
        ({}, 1.0, True),  # right: some path saves two layers
        ({"....": 1.0}, -1.0, False),  # right, and nothing else is
    ],
)
def test_the_published_rule(margins, otherwise, stops):
    evaluate = scripted(margins, otherwise)
    search = drive(layer_search(4, simulations=30, stop="published"), evaluate)
    assert search.stop_reason == ("early" if stops else "budget")
    patient = drive(layer_search(4, simulations=30), evaluate)
    assert patient.stop_reason == "budget"
    assert search.evaluations == patient.evaluations[: len(search.evaluations)]


def test_the_published_rule_wants_two_layers_saved():
    one_saved = {str(Move(layer, LayerAction.SKIP).apply(FULL)): 1.0 for layer in range(4)} | {"....": 1.0}
    search = drive(layer_search(4, simulations=30, stop="published"), scripted(one_saved, otherwise=-1.0))
    best = search.best()
    assert best is not None
    assert best.path.depth == 3
    assert search.stop_reason == "budget"


def test_finishing_keeps_what_was_told_and_withdraws_the_rest():
    search, evaluate = layer_search(6, parallel_leaves=4), toy_model(0)
    tell_all(search, evaluate)
    a, b, _, d = search.ask()
    search.tell(d, evaluate(d))
    search.tell(b, evaluate(b))
    search.finish("interrupted")
    assert search.stop_reason == "interrupted"
    assert [(e.path, e.simulation) for e in search.evaluations[1:]] == [(b, 2), (d, 4)]
    assert (search.simulations, search.layer_executions) == (2, 6 + b.depth + d.depth)
    assert all(edge.pending == 0 for node in search.tree.nodes.values() for edge in node.edges)
    assert not search.tell(a, evaluate(a))
    assert search.ask() == []
    search.finish("budget")
    assert search.stop_reason == "interrupted"


def test_finishing_before_anything_is_told():
    search = layer_search(4)
    search.ask()
    search.finish("interrupted")
    assert (search.evaluations, search.best(), search.status(), search.ask()) == ([], None, "searching", [])


# Rewards, and what is best


def test_rewards_by_hand():
    """Margin ln 3: σ is ¾. Three of four layers cost ¾ · λ. Wrong by ln 3: σ is ¼."""
    path = LayerPath([1, 0, 1, 1])
    search = layer_search(4, length_weight=0.25)
    assert search.reward(Evaluation(path, True, math.log(3))) == pytest.approx(0.5 + 0.375 - 0.1875)
    assert search.reward(Evaluation(path, False, -math.log(3))) == pytest.approx(0.125 - 0.1875)
    assert search.reward(Evaluation(path, False, None)) == pytest.approx(-0.1875)
    assert search.reward(Evaluation(path, True, 1e9)) == pytest.approx(1 - 0.1875)


def test_a_measured_cost_prices_the_reward():
    """Layer 1 costs 3 of 6 units, so skipping it saves half of λ."""
    cost = CostModel.from_measures("latency", [1.0, 3.0, 1.0, 1.0])
    search = PathSearch(4, SearchSettings(), cost, rng_that_keeps_order())
    assert search.reward(Evaluation(LayerPath([1, 0, 1, 1]), False, None)) == pytest.approx(-0.125)


def test_relative_margins_count_from_the_full_path():
    search = PathSearch(4, SearchSettings(), CostModel.layers(4), rng_that_keeps_order(), relative_margin=True)
    search.ask()
    search.tell(FULL, Evaluation(FULL, correct=True, margin=-2.0))
    assert search.tree.root.reward == pytest.approx(0.5 + 0.25 - 0.25)
    path = LayerPath([1, 1, 1, 0])
    assert search.reward(Evaluation(path, False, -2.0 + math.log(3))) == pytest.approx(0.375 - 0.1875)


@given(st.floats(1e-6, 50), st.floats(-50, 0), st.integers(1, 34), st.integers(1, 34))
def test_every_right_choice_path_beats_every_wrong_one(right, wrong, right_depth, wrong_depth):
    def path(depth: int) -> LayerPath:
        return LayerPath([2] * max(0, depth - 30) + [1] * (min(30, depth) - max(0, depth - 30)) + [0] * (30 - depth))

    search = layer_search(30)
    assert search.reward(Evaluation(path(right_depth), True, right)) > search.reward(
        Evaluation(path(wrong_depth), False, wrong)
    )


@pytest.mark.parametrize("margin", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("relative_margin", [False, True])
def test_a_full_path_without_a_margin_is_wrong_and_does_no_harm(margin, relative_margin):
    search = PathSearch(
        4, SearchSettings(), CostModel.layers(4), rng_that_keeps_order(), relative_margin=relative_margin
    )
    search.ask()
    search.tell(FULL, Evaluation(FULL, correct=True, margin=margin))
    assert search.base == Evaluation(FULL, correct=False, margin=None, simulation=0)
    assert search.status() == "failed"
    assert search.tree.root.reward == -0.25
    drive(search, scripted({}, otherwise=1.0))
    assert search.stop_reason == "budget"


def test_the_best_is_cheapest_then_surest_then_first():
    def best(margins: dict[str, float]) -> str | None:
        search = drive(layer_search(3, simulations=10**6, max_edits=2), scripted(margins, otherwise=-1.0))
        evaluation = search.best()
        return str(evaluation.path) if evaluation else None

    assert best({}) is None
    assert best({"...": 1.0, "-..": 0.1, "2..": 9.0}) == "-.."
    assert best({".-.": 0.5, "-..": 0.1, "..-": 0.4}) == ".-."
    assert best({".-.": 0.5, "-..": 0.5, "..-": 0.5}) == "-.."


@pytest.mark.parametrize(
    ("margins", "status"),
    [({"...": 1.0}, "kept"), ({"-..": 1.0}, "improved"), ({}, "unsolved")],
)
def test_status(margins, status):
    search = layer_search(3, simulations=10**6, max_edits=1)
    assert search.status() == "searching"
    assert drive(search, scripted(margins, otherwise=-1.0)).status() == status


# What it is built from


def test_a_cost_model_of_another_model():
    with pytest.raises(ValueError, match="of 5 layers, the search of 4"):
        PathSearch(4, SearchSettings(), CostModel.layers(5), rng_that_keeps_order())


def test_the_search_is_pure():
    """It knows neither tensors nor a cluster nor files."""
    code = (
        "import sys, pathgen.search.path_search; print(*{'torch', 'ray', 'pyarrow', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
