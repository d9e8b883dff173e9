"""Routed scores are those of the paths that the policy takes, whatever the batching."""

from __future__ import annotations

import numpy as np
import pytest

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.dev.routed_scores import RoutedScores, askable, route
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.router import Router, path_logits


@pytest.fixture(scope="module")
def evaluator(tiny_model):
    return Evaluator(PathModel.from_pretrained(str(tiny_model)), find_task("arc"))


QUESTIONS = [
    Question(f"q{number}", "Which one floats" + "?" * number, ("cork", "lead", "iron bar"), number % 3)
    for number in range(20)
]


def test_a_static_router_runs_its_path_on_all(evaluator):
    path = LayerPath([1, 0, 1, 2, 1, 1])
    config = RouterConfig("tiny", "0" * 16, 6, 32, ("arc",), "static", head="none")
    router = Router(config)
    router.static_logits.data = path_logits(path)
    paths = route(evaluator, RouterPolicy(router), QUESTIONS)
    assert set(paths) == {path}


def test_what_does_not_fit_the_context_is_left_out(evaluator):
    long = Question("long", "x" * 600, ("a", "b"), 0)
    assert askable(evaluator, [QUESTIONS[0], long, QUESTIONS[1]]) == QUESTIONS[:2]


def test_the_common_path_is_the_one_most_questions_take():
    full, short = LayerPath([1, 1]), LayerPath([1, 0])
    scores = RoutedScores((short, full, LayerPath([2, 1]), full), np.zeros(4, dtype=bool))
    assert scores.common_path == full
