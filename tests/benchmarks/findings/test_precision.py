"""The comparison of verdicts across precisions and batchings."""

import json

import numpy as np
import pytest

from benchmarks.findings import precision
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question

FULL, SHORT = LayerPath([1, 1, 1]), LayerPath([1, 0, 1])


def scored(margin: float, path: LayerPath = FULL) -> Evaluation:
    return Evaluation(path, margin > 0, margin, (0.0, margin))


def test_differing_verdicts_are_counted_with_the_first_run_s_margins():
    first = [scored(2.0), scored(0.25), scored(-0.5), scored(-3.0)]
    second = [scored(1.0), scored(-0.25), scored(0.5), scored(-3.0)]
    found = precision.compared(first, second)
    assert (found["verdicts_differ"]["value"], found["answers_differ"]["value"]) == (0.5, 0.5)
    assert found["margin_where_verdicts_differ_nats"]["largest"] == 0.5
    assert found["margin_gap_nats"]["largest"] == 1.0
    assert precision.compared(first, first)["margin_where_verdicts_differ_nats"] is None


def test_a_question_is_mended_in_float32_only_by_the_same_path():
    questions = [Question(name, name, ("x", "y"), 1) for name in "ab"]
    asked = [(question, path) for question in questions for path in (FULL, SHORT)]
    wide = [scored(m) for m in (-1, 1, -1, -1)]
    narrow = [scored(m) for m in (-1, 1, -1, 1)]
    found = precision.mended(asked, wide, narrow)
    assert found == {"wrong": 2, "mended": 2, "mended_in_float32_by_the_same_path": 1}


@pytest.mark.parametrize("task", ["arc", "arc-letter"])
def test_the_command_compares_three_runs(tiny_model, capsys, task):
    precision.main(model=str(tiny_model), task=task, limit=3, paths=2, batch=4)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["pairs"] == 9
    gaps = document["against_float32"]["margin_gap_nats"]
    assert 0 < gaps["median"] <= gaps["largest"] < 1
    assert document["between_batchings"]["margin_gap_nats"]["largest"] <= gaps["largest"] + 0.1
    assert np.isfinite(document["between_batchings"]["verdicts_differ"]["value"])
