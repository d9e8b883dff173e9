"""The work of answers, counted in weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_runs import make_questions

from infer.bench.answers import Effort
from infer.bench.model_cost import ModelCost
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task

COST = ModelCost(
    layers=np.array([10.0, 30.0]),
    bridges=np.zeros(2),
    head=100.0,
    tokens=np.array([5.0, 8.0]),
    scored=np.array([2.0, 3.0]),
)
"""Full depth: 5·40 + 2·100 = 400 and 8·40 + 3·100 = 620, together 1020."""

FULL = Effort((1, 1), (0, 0))


@pytest.mark.parametrize(
    ("efforts", "work"),
    [
        ([FULL, FULL], 1020),
        ([Effort((0, 1), (1, 0)), Effort((1, 2), (0, 0))], (5 * 30 + 200) + (8 * 70 + 300)),
        ([Effort((1, 1), (0, 0), probes=1), Effort((1, 0), (0, 1), probes=2)], (400 + 100) + (8 * 10 + 300 + 200)),
        ([Effort((2, 1), (0, 1), passes=2), FULL], (5 * 50 + 2 * 200) + 620),
    ],
)
def test_work_by_hand(efforts, work):
    assert COST.ratio(efforts) == pytest.approx(work / 1020)


def test_an_effort_counts_every_pass():
    paths = [LayerPath([1, 0, 1]), LayerPath([0, 2, 1]), LayerPath([0, 1, 2])]
    assert Effort.of_paths(paths, probes=3) == Effort((1, 3, 4), (2, 1, 0), 3, 3)


def test_bridges_count_where_a_path_skips():
    """Layer 0 has a whole map of width 4 (16 + 4 weights), layer 1 one of rank 1 (4 + 4 + 4)."""
    whole = Bridge(torch.zeros(4, 4), None, torch.zeros(4))
    narrow = Bridge(torch.zeros(1, 4), torch.zeros(4, 1), torch.zeros(4))
    cost = COST.over(Bridges((whole, narrow)))
    assert cost.bridges.tolist() == [20, 12]
    assert cost.ratio([FULL, FULL]) == 1
    one_pass = [Effort.of_paths([LayerPath([0, 1])]), Effort.of_paths([LayerPath([2, 0])])]
    assert cost.ratio(one_pass) == pytest.approx((5 * (20 + 30) + 200 + 8 * (20 + 12) + 300) / 1020)
    searched = Effort.of_paths([LayerPath([0, 0]), LayerPath([0, 2])])
    assert cost.ratio([searched, FULL]) == pytest.approx((5 * (2 * 20 + 12 + 60) + 2 * 200 + 620) / 1020)
    assert cost.over(None).ratio(one_pass) == COST.ratio(one_pass)


def test_a_models_weights_and_tokens(tiny_model):
    model = PathModel.from_pretrained(str(tiny_model))
    evaluator = Evaluator(model, find_task("arc"))
    prepared = evaluator.prepare(make_questions("raft", 1)[0])
    cost = ModelCost.of(model, tiny_model, [prepared])
    attention = 32 * 32 * 2 + 32 * 16 * 2  # queries and output; keys and values of half the heads
    assert cost.layers.tolist() == [attention + 3 * 32 * 64 + 2 * 32] * 6
    assert cost.bridges.tolist() == [0] * 6
    assert cost.head == 257 * 32
    prompt = len("Question: Which raft floats 0\nAnswer:")
    continuation = [len(f" {choice}") for choice in ("cork", "lead", "iron bar")]
    assert cost.tokens.tolist() == [prompt + sum(continuation) - 3]  # one packed row; last tokens predict nothing
    assert cost.scored.tolist() == [1 + sum(continuation) - 3]
