"""Search at test time ends where the model is surest, and never learns what gold is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bench_runs import make_questions

from infer.systems.confident_search import SETTINGS, ConfidentSearch, confidence, search_questions
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.tasks import find_task

QUESTIONS = make_questions("raft", 6)


@pytest.fixture(scope="module")
def evaluator(tiny_model):
    return Evaluator(PathModel.from_pretrained(str(tiny_model)), find_task("arc"))


def test_confidence_is_the_first_choices_share():
    path = LayerPath([1, 1])
    scores = (float(np.log(0.02)), float(np.log(0.06)), float(np.log(0.12)))
    assert confidence(Evaluation(path, False, 0.0, scores)) == pytest.approx(0.6)
    assert confidence(Evaluation(path, False, None)) is None


def test_gold_changes_nothing(evaluator):
    found = search_questions(evaluator, QUESTIONS, seed=1)
    other = search_questions(evaluator, [replace(q, gold=(q.gold + 1) % 3) for q in QUESTIONS], seed=1)
    assert [entry.tried for entry in found] == [entry.tried for entry in other]
    assert [entry.evaluation.path for entry in found] == [entry.evaluation.path for entry in other]


def test_the_best_reward_among_what_was_tried_is_taken(evaluator):
    found = search_questions(evaluator, QUESTIONS, seed=1)
    for question, entry in zip(QUESTIONS, found, strict=True):
        assert entry.tried[0] == LayerPath.full(6)
        assert 1 < len(entry.tried) <= SETTINGS.simulations + 1
        prepared = evaluator.prepare(question)
        run = evaluator.evaluate([(prepared, path) for path in entry.tried])
        # quality is ½ + ½·confidence; a path pays for its layers
        worth = [0.5 + 0.5 * confidence(e) - SETTINGS.length_weight * e.path.depth / 6 for e in run]
        assert worth[entry.tried.index(entry.evaluation.path)] == pytest.approx(max(worth), abs=1e-5)
        graded = run[entry.tried.index(entry.evaluation.path)]
        assert entry.evaluation.correct == graded.correct
        assert entry.evaluation.margin == pytest.approx(graded.margin, abs=1e-4)


def test_company_changes_nothing(evaluator):
    together = search_questions(evaluator, QUESTIONS, seed=1)
    alone = [search_questions(evaluator, [question], seed=1)[0] for question in QUESTIONS]
    assert [entry.tried for entry in together] == [entry.tried for entry in alone]


def test_a_model_without_scores_is_wrong():
    search = ConfidentSearch(2, np.random.default_rng(0))
    (full,) = search.ask()
    search.tell(full, Evaluation(full, correct=False, margin=None))
    assert search.found().evaluation == Evaluation(full, correct=False, margin=None)
