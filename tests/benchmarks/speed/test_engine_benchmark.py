import json

import numpy as np
import pytest
import torch
from tiny_checkpoint import NUM_LAYERS

from benchmarks.speed import engine
from benchmarks.speed.scoring_ways import (
    MAX_EDITS,
    Asked,
    FixedAsk,
    Outcome,
    engine_calls,
    interleaved,
    random_paths,
    stock,
)
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task


@pytest.fixture(scope="module")
def asked():
    texts = ("one?", "a longer one?", "and the longest of them all?")
    rng = np.random.default_rng(0)
    return [
        Asked(Question(f"q{i}", text, ("ab", "cde", "f"), 1), random_paths(NUM_LAYERS, 6, rng))
        for i, text in enumerate(texts)
    ]


def test_random_paths_differ_and_have_few_edits_of_both_kinds():
    paths = random_paths(30, 200, np.random.default_rng(1))
    assert len(set(paths)) == 200
    assert {path.edits for path in paths} == set(range(1, MAX_EDITS + 1))
    assert {action for path in paths for action in path} == {0, 1, 2}
    assert paths == random_paths(30, 200, np.random.default_rng(1))


def test_paths_are_asked_some_at_a_time_once_the_last_are_told():
    paths = random_paths(6, 5, np.random.default_rng(2))
    asker = FixedAsk(paths, 2)
    asked = []
    while asker.stop_reason is None:
        turn = asker.ask()
        assert 0 < len(turn) <= 2
        assert asker.ask() == []
        asked += turn
        for path in turn:
            asker.tell(path, Evaluation(path, correct=True, margin=1.0))
    assert asked == paths == [evaluation.path for evaluation in asker.evaluations]


def test_all_ways_give_the_same_scores_with_ever_less_work(model, asked):
    evaluator, task = Evaluator(model, find_task("arc"), keep_bytes=0), find_task("arc")
    assert evaluator.masks is not None
    ways = engine.rival_ways(model, (2, 2))
    assert list(ways) == ["stock", "plain", "packed", "batched", "interleaved"]
    outcomes = {name: way(asked) for name, way in ways.items()}
    assert engine.largest_gap({name: [[outcome]] for name, outcome in outcomes.items()}) < 1e-4
    nominal = sum(path.depth for one in asked for path in one.paths)
    assert outcomes["stock"].layers_run == outcomes["plain"].layers_run == 3 * nominal
    assert outcomes["packed"].layers_run == nominal
    assert outcomes["batched"].layers_run < nominal
    assert outcomes["interleaved"].layers_run == outcomes["batched"].layers_run  # nothing kept was pushed out
    assert outcomes["packed"].token_layers < outcomes["plain"].token_layers < outcomes["stock"].token_layers
    assert task.needs == "choices"


def test_the_stock_way_counts_what_the_layers_really_ran(model, asked):
    runs = []
    hooks = [layer.register_forward_hook(lambda m, a, out: runs.append(out.shape)) for layer in model.layers]
    try:
        outcome = stock(model)(asked)
    finally:
        for hook in hooks:
            hook.remove()
    assert outcome.layers_run == sum(rows for rows, _, _ in runs)
    assert outcome.token_layers == sum(rows * tokens for rows, tokens, _ in runs)


def test_a_way_run_again_does_all_its_work_again(model, asked):
    way = interleaved(Evaluator(model, find_task("arc")), 3, 2)
    first, second = way(asked), way(asked)
    assert (first.layers_run, first.token_layers) == (second.layers_run, second.token_layers)
    assert first.scores == second.scores


def test_a_path_without_finite_scores_is_no_result(model, asked):
    evaluator = Evaluator(model, find_task("arc"))
    weight = model.layers[0].input_layernorm.weight
    kept = weight.clone()
    try:
        weight.fill_(torch.nan)
        with pytest.raises(PathgenError, match="NaN or Inf"):
            engine_calls(evaluator, 1)([Asked(asked[0].question, [LayerPath.full(NUM_LAYERS)])])
    finally:
        weight.copy_(kept)


def test_the_gap_is_the_largest_over_all_repeats_and_ways():
    def blocks(*scores):
        return [Outcome([1.0], [[score]], 0, 0) for score in scores]

    same, off, worse = blocks((1.0, 2.0), (3.0, 4.0)), blocks((1.0, 2.5), (3.0, 4.0)), blocks((1.0, 2.0), (2.0, 4.0))
    assert engine.largest_gap({"a": [same, same], "b": [same, same]}) == 0
    assert engine.largest_gap({"a": [same, same], "b": [same, off]}) == 0.5
    assert engine.largest_gap({"a": [same, worse], "b": [off, same]}) == 1.0


def test_speeds_are_medians_over_repeats_against_the_batched_way():
    def repeats(*seconds):
        return [[Outcome([s, 2 * s], [[], []], 10, 100)] for s in seconds]

    results = {
        "plain": repeats(8.0, 8.0, 99.0),
        "packed": repeats(4.0, 4.0, 4.0),
        "batched": repeats(50.0, 2.0, 2.0),
    }
    found = engine.compare(results, seed=0)
    assert found["seconds_over_batched"]["plain"]["value"] == pytest.approx(4.0)
    assert found["seconds_over_batched"]["packed"]["value"] == pytest.approx(2.0)
    assert found["ways"]["batched"]["seconds_per_question"]["value"] == pytest.approx(3.0)
    assert found["ways"]["batched"]["token_layers_per_question"] == 50
    assert [entry["met"] for entry in found["targets"].values()] == [True, False]


def test_the_command_compares_and_sweeps(folder, capsys, monkeypatch):
    engine.main(model=folder, limit=3, repeats=1)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["questions"] == 3
    assert document["largest_score_gap_nats"] < 1e-4
    assert set(document["seconds_over_batched"]) == {"stock", "plain", "packed", "interleaved"}

    monkeypatch.setattr(engine, "SWEEP_LEAVES", (1, 4))
    monkeypatch.setattr(engine, "SWEEP_IN_FLIGHT", (1, 2))
    engine.main(model=folder, limit=3, repeats=1, part="sweep", parallel_leaves=3, in_flight=2)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(document["settings"]) == {engine.setting_name(*s) for s in ((1, 1), (1, 2), (4, 1), (4, 2), (3, 2))}
    assert document["settings"][document["default"]]["seconds_over_default"]["value"] == 1.0
    assert document["fastest"] in document["settings"]


def test_the_command_tells_where_a_search_spends_its_time(folder, capsys):
    engine.main(model=folder, limit=3, part="search", task="arc-letter")
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = document["search"]
    assert set(found["seconds_per_question"]) == {"capture", "layers", "finish"}
    seconds = found["seconds_per_question"]
    assert found["layers_share"]["value"] == pytest.approx(seconds["layers"] / sum(seconds.values()))
    assert found["layers_over_plain_products"]["value"] == pytest.approx(
        found["layers_gflops_per_s"] / found["plain_products_gflops_per_s"]
    )
    assert found["evaluations_per_question"] > 1
    assert set(document["full_depth"]["seconds_per_question"]) == {"capture", "layers", "finish"}


def test_scores_that_differ_end_the_command_after_its_json(folder, capsys, monkeypatch):
    monkeypatch.setattr(engine, "largest_gap", lambda results: 0.5)
    with pytest.raises(PathgenError, match=r"differ by 0.5 nats"):
        engine.main(model=folder, limit=1, repeats=1)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["largest_score_gap_nats"] == 0.5
