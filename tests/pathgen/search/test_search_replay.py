"""A search is what its seed and its results make it: told in any order, replayed, interrupted, extended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from search_toys import drive, layer_search, search_makers, snapshot, tell_all, toy_model

from pathgen.generate.question_search import QuestionSearch
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.search.path_search import PathSearch

FULL = LayerPath.full(4)
MODELS = st.integers(0, 99)


@given(search_makers(), MODELS, st.randoms(use_true_random=False))
def test_the_order_of_telling_changes_nothing(make, model, telling):
    in_order, shuffled = drive(make(), toy_model(model)), drive(make(), toy_model(model), telling)
    assert snapshot(in_order) == snapshot(shuffled)


def test_another_seed_is_another_search():
    orders = {
        tuple(evaluation.path for evaluation in drive(layer_search(6, seed), toy_model(0)).evaluations)
        for seed in range(5)
    }
    assert len(orders) == 5


def finish_with(search: PathSearch, stored: dict[LayerPath, Evaluation], evaluate) -> list[LayerPath]:
    """Replay, evaluate what is not stored, and so on to the end; returns what had to be evaluated."""
    running = QuestionSearch(None, search, stored)
    evaluated = []
    while missing := running.pending():
        for path in missing:
            search.tell(path, evaluate(path))
        evaluated += missing
    return evaluated


@given(search_makers(), MODELS, st.data())
def test_replay_of_a_part_rebuilds_the_whole(make, model, data):
    evaluate = toy_model(model)
    once = drive(make(), evaluate)
    kept = data.draw(st.sets(st.sampled_from(once.evaluations)) | st.just(set(once.evaluations)))
    stored = {evaluation.path: evaluation for evaluation in kept}
    again = make()
    evaluated = finish_with(again, stored, evaluate)
    assert snapshot(again) == snapshot(once)
    assert stored.keys().isdisjoint(evaluated)
    assert stored.keys() | set(evaluated) == {evaluation.path for evaluation in once.evaluations}


@given(search_makers(min_layers=3), MODELS, st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_an_extended_search_reuses_every_evaluation(make, model, simulations, more, more_layers):
    evaluate = toy_model(model)
    layer_budget = make.settings["layer_budget"]
    smaller = drive(make(simulations=simulations), evaluate)
    stored = {evaluation.path: evaluation for evaluation in smaller.evaluations}
    larger = make(simulations=simulations + more, layer_budget=layer_budget and layer_budget + more_layers)
    evaluated = finish_with(larger, stored, evaluate)
    assert larger.evaluations[: len(stored)] == smaller.evaluations
    assert len(evaluated) == len(larger.evaluations) - len(stored)


def test_twenty_simulations_extended_to_fifty():
    """As a run does it: an interruption between two results of one ask, a resume, and then a larger budget."""
    evaluate = toy_model(4)
    interrupted = layer_search(12, simulations=20, parallel_leaves=3)
    for _ in range(4):
        tell_all(interrupted, evaluate)
    last = interrupted.ask()[-1]
    interrupted.tell(last, evaluate(last))
    interrupted.finish("interrupted")
    stored = {evaluation.path: evaluation for evaluation in interrupted.evaluations}
    assert len(stored) == 11

    resumed = layer_search(12, simulations=20, parallel_leaves=3)
    evaluated = finish_with(resumed, stored, evaluate)
    assert snapshot(resumed) == snapshot(drive(layer_search(12, simulations=20, parallel_leaves=3), evaluate))
    assert len(evaluated) == len(resumed.evaluations) - len(stored)

    stored = {evaluation.path: evaluation for evaluation in resumed.evaluations}
    extended = layer_search(12, simulations=50, parallel_leaves=3)
    evaluated = finish_with(extended, stored, evaluate)
    assert snapshot(extended) == snapshot(drive(layer_search(12, simulations=50, parallel_leaves=3), evaluate))
    assert len(evaluated) == len(extended.evaluations) - len(stored)


def test_replay_leaves_a_waiting_search_alone():
    search, evaluate = layer_search(4), toy_model(0)
    assert QuestionSearch(None, search).pending() == [FULL]
    assert QuestionSearch(None, search, {FULL: evaluate(FULL)}).pending() == []
    assert search.evaluations == []


def test_a_search_out_of_time_tells_all_that_is_stored_and_at_least_the_full_path():
    """Interrupted after its last result, or continued under a smaller budget of seconds."""
    evaluate = toy_model(0)
    once = drive(layer_search(8, simulations=20), evaluate)
    stored = {evaluation.path: evaluation for evaluation in once.evaluations[:9]}
    spent = {"seconds_budget": 1.0, "seconds": 2.0}
    search = layer_search(8, simulations=20)
    assert QuestionSearch(None, search, stored, **spent).pending() == []
    assert (search.stop_reason, search.evaluations) == ("budget", once.evaluations[:9])
    search = layer_search(8, simulations=20)
    running = QuestionSearch(None, search, **spent)
    [full] = running.pending()
    search.tell(full, evaluate(full))
    assert running.pending() == []
    assert (search.stop_reason, len(search.evaluations)) == ("budget", 1)
