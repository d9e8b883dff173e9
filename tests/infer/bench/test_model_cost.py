"""The work of answers, counted in weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench_runs import make_questions

from infer.bench.answers import Effort
from infer.bench.model_cost import ModelCost
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task

COST = ModelCost(layers=np.array([10.0, 30.0]), head=100.0, tokens=np.array([5.0, 8.0]), scored=np.array([2.0, 3.0]))
"""Full depth: 5·40 + 2·100 = 400 and 8·40 + 3·100 = 620, together 1020."""


@pytest.mark.parametrize(
    ("efforts", "work"),
    [
        ([Effort((1, 1)), Effort((1, 1))], 1020),
        ([Effort((0, 1)), Effort((1, 2))], (5 * 30 + 200) + (8 * 70 + 300)),
        ([Effort((1, 1), probes=1), Effort((1, 0), probes=2)], (400 + 100) + (8 * 10 + 300 + 200)),
        ([Effort((2, 1), passes=2), Effort((1, 1))], (5 * 50 + 2 * 200) + 620),
    ],
)
def test_work_by_hand(efforts, work):
    assert COST.ratio(efforts) == pytest.approx(work / 1020)


def test_an_effort_counts_every_pass():
    assert Effort.of_paths([LayerPath([1, 1, 1]), LayerPath([0, 2, 1])], probes=3) == Effort((1, 3, 2), 2, 3)


def test_a_models_weights_and_tokens(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    evaluator = Evaluator(model, find_task("arc"))
    prepared = evaluator.prepare(make_questions("raft", 1)[0])
    cost = ModelCost.of(model, [prepared])
    attention = 32 * 32 * 2 + 32 * 16 * 2  # queries and output; keys and values of half the heads
    assert cost.layers.tolist() == [attention + 3 * 32 * 64 + 2 * 32] * 6
    assert cost.head == 257 * 32
    prompt = len("Question: Which raft floats 0\nAnswer:")
    continuation = [len(f" {choice}") for choice in ("cork", "lead", "iron bar")]
    assert cost.tokens.tolist() == [prompt + sum(continuation) - 3]  # one packed row; last tokens predict nothing
    assert cost.scored.tolist() == [1 + sum(continuation) - 3]
