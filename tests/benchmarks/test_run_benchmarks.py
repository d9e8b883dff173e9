"""The benchmarks that run the whole program: real actors on a tiny model."""

import json

import pytest
from tiny_checkpoint import NUM_LAYERS, save_tiny_model

from benchmarks.findings import arc_easy
from benchmarks.speed import actors

pytestmark = pytest.mark.ray


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_plain_run_is_reported_and_a_kept_one_again_without_time(tmp_path, capsys):
    model = str(save_tiny_model(tmp_path / "model"))
    asked = {"model": model, "limit": 5, "simulations": 8, "out": tmp_path / "run"}
    arc_easy.main(**asked, options=["--parallel-leaves", "2"])
    first = last_json(capsys)
    assert (first["questions"], first["num_layers"], first["simulations"]) == (5, NUM_LAYERS, 8)
    assert first["this_call"]["searched"] == 5
    assert first["this_call"]["seconds_per_question"] > 0
    assert 0 <= first["headroom"]["gold"] <= 1
    assert len(first["action_counts"]) == NUM_LAYERS

    arc_easy.main(**asked, options=["--parallel-leaves", "2"])
    again = last_json(capsys)
    assert (again["this_call"]["searched"], again["this_call"]["seconds_per_question"]) == (0, None)
    found = ("questions", "solved_rate", "mean_best_depth", "base_margins", "headroom", "action_counts")
    assert {name: first[name] for name in found} == {name: again[name] for name in found}


@pytest.mark.slow
def test_one_actor_and_two_do_the_same_work(tmp_path, capsys):
    actors.main(model=str(save_tiny_model(tmp_path)), limit=4, simulations=6, repeats=1)
    document = last_json(capsys)
    [one], [two] = document["runs"]["1 actors"], document["runs"]["2 actors"]
    assert one["simulations"] == two["simulations"] == 24
    assert one["layers_run"] == two["layers_run"]
    for run in (one, two):
        assert 0 < run["busy_share"] <= 1
        assert 0 < run["driver_cpu_seconds"] < run["wall_seconds"] * 2
        assert run["driver_share_of_search"] >= 0
    assert document["speed"]["value"] > 0
