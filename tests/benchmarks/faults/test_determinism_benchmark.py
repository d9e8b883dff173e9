import json

import pytest
from tiny_checkpoint import save_tiny_model

from benchmarks.faults import determinism
from benchmarks.faults.determinism import compare, results
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.questions.question import Question

FULL, SKIP, REPEAT = LayerPath([1, 1, 1]), LayerPath([1, 0, 1]), LayerPath([1, 1, 2])


def record(*evaluated, best=FULL):
    evaluations = [Evaluation(path, margin is not None and margin > 0, margin) for path, margin in evaluated]
    question = Question("q", "?", ("a", "b"), 0)
    return PathRecord(question, "sha", "arc", "kept", 3, 0, "w", 1, 0, best_path=best, evaluations=evaluations)


def test_equal_runs_are_identical():
    runs = [record((FULL, 1.0), (SKIP, 2.0)), record((FULL, -1.0))]
    found = compare(runs, runs)
    assert found["identical"]["value"] == found["same_best"]["value"] == 1.0
    assert (found["paths_compared"], found["largest_margin_gap_nats"], found["undefined_in_one"]) == (3, 0.0, 0)


def test_another_order_of_paths_is_not_identical_and_margins_are_matched_by_path():
    found = compare([record((FULL, 1.0), (SKIP, 2.0))], [record((SKIP, 2.25), (FULL, 1.0), best=SKIP)])
    assert found["identical"]["value"] == found["same_best"]["value"] == 0.0
    assert (found["paths_compared"], found["largest_margin_gap_nats"]) == (2, 0.25)


def test_paths_of_one_run_only_are_not_compared_and_undefined_margins_are_told():
    found = compare([record((FULL, 1.0), (SKIP, None))], [record((FULL, 1.5), (SKIP, 3.0), (REPEAT, 9.0))])
    assert (found["paths_compared"], found["largest_margin_gap_nats"], found["undefined_in_one"]) == (2, 0.5, 1)


def test_one_record_in_fifty_that_differs_misses_the_target():
    same, other = record((FULL, 1.0), (SKIP, 2.0)), record((FULL, 1.0), (REPEAT, 2.0))
    runs = {"one_in_flight": [same] * 50, "several_in_flight": [same] * 49 + [other], "plain_rows": [same] * 50}
    found = results(runs)
    assert found["several_in_flight"]["identical"]["value"] == 0.98
    assert not found["targets"]["identical"]["met"]
    assert results(runs | {"several_in_flight": [same] * 50})["targets"]["identical"]["met"]


def test_the_command_searches_three_times(tmp_path, capsys):
    determinism.main(model=str(save_tiny_model(tmp_path)), limit=5, simulations=12)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["several_in_flight"]["identical"]["of"] == document["plain_rows"]["identical"]["of"] == 5
    assert document["several_in_flight"]["paths_compared"] > 5
    assert document["several_in_flight"]["largest_margin_gap_nats"] == pytest.approx(0.0, abs=1e-3)
    assert document["plain_rows"]["largest_margin_gap_nats"] == pytest.approx(0.0, abs=1e-3)
