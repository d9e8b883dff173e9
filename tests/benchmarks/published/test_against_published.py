import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_checkpoint import NUM_LAYERS

from benchmarks.lab.in_process import InProcess, run_settings
from benchmarks.published import against_published
from benchmarks.published.against_published import take_turns
from benchmarks.published.found import Found, compare, figures
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.cost import CostModel
from pathgen.paths.records import seeded_hash
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.search.path_search import PathSearch
from pathgen.search.settings import SearchSettings

SETTINGS = SearchSettings(simulations=10, parallel_leaves=2)
FOUND = Found("q", 1.0, True, True, 5, 2.0, 10, 60, 30)


@pytest.fixture(scope="module")
def run(model, folder):
    return run_settings(model, find_task("arc"), folder, SETTINGS, seed=4, in_flight=2, threads=1)


@pytest.fixture(scope="module")
def questions():
    return [Question(f"q{i}", f"number {'one ' * i}?", ("ab", "cde", "f"), i % 3) for i in range(7)]


def fresh(model):
    return Evaluator(model, find_task("arc"))


def test_searching_in_process_is_the_search_alone(model, run, questions):
    evaluator = fresh(model)
    for question, searched in zip(questions, InProcess(run, fresh(model)).search(questions), strict=True):
        assert searched.record.question.id == question.id
        rng = np.random.default_rng(seeded_hash(4, question.id))
        search = PathSearch(NUM_LAYERS, SETTINGS, CostModel.layers(NUM_LAYERS), rng)
        prepared = evaluator.prepare(question)
        while paths := search.ask():
            for path, evaluation in zip(paths, evaluator.evaluate([(prepared, p) for p in paths]), strict=True):
                search.influence = evaluator.influence(prepared)
                search.tell(path, evaluation)
        assert [e.path for e in searched.record.evaluations] == [e.path for e in search.evaluations]
        assert searched.record.status == search.status()
        assert searched.seconds > 0


def test_work_of_a_block_is_counted_in_full(model, run, questions):
    ours = InProcess(run, fresh(model))
    first = ours.search(questions[:3])
    after_first = ours.token_layers
    second = ours.search(questions[3:])
    layers_run = sum(searched.record.layers_run or 0 for searched in first + second)
    shortest = min(len(question.prompt) for question in questions)
    assert 0 < after_first < ours.token_layers
    assert ours.token_layers >= layers_run * shortest  # one token a byte, and every layer ran on all of them


def test_a_question_that_does_not_fit_ends_the_benchmark_by_name(model, run):
    long = Question("long one", "a" * 600, ("b", "c"), 0)
    with pytest.raises(PathgenError, match="long one"):
        InProcess(run, fresh(model)).search([long])


def test_every_search_meets_all_its_questions_in_shared_turns():
    calls = []

    def search(name):
        def run(questions):
            calls.append((name, len(questions)))
            return list(questions)

        return run

    numbered = [Question(str(number), "?", ("a", "b"), 0) for number in range(50)]
    results = take_turns({name: search(name) for name in ("published", "ours")}, numbered, 8)
    assert [sorted(found, key=numbered.index) for found in results.values()] == [numbered] * 2
    assert results["published"] == results["ours"]
    assert [name for name, _ in calls[:4]] == ["published", "ours", "ours", "published"]
    assert all(size <= 8 for _, size in calls)


def test_figures_of_one_side():
    found = [FOUND, replace(FOUND, seconds=3.0, solved=False, base_correct=False, best_depth=None, best_margin=None)]
    side = figures(found, token_layers=1000, seed=0)
    assert side["questions_per_second"] == 2 / 4
    assert (side["solved_rate"]["value"], side["base_accuracy"]["value"]) == (0.5, 0.5)
    assert (side["mean_best_depth"]["value"], side["median_best_margin"]) == (5.0, 2.0)
    assert (side["layers_run_per_question"], side["token_layers_per_question"]) == (30, 500)


def test_a_side_that_solved_nothing_has_no_depth():
    side = figures([replace(FOUND, solved=False, best_depth=None, best_margin=None)], token_layers=1, seed=0)
    assert side["mean_best_depth"] is side["median_best_margin"] is None


def test_the_comparison_pairs_questions():
    published = [replace(FOUND, seconds=12.0, layers_run=90), replace(FOUND, solved=False, best_depth=None)]
    ours = [replace(FOUND, seconds=1.0, best_depth=7), FOUND]
    found = compare(published, ours, seed=0)
    assert found["speed"]["value"] == pytest.approx(6.5)
    assert found["solved_rate_gained"]["value"] == 0.5
    assert found["extra_depth_where_both_solved"]["value"] == 2.0
    assert found["layers_run_saved"]["value"] == 2.0
    assert {name: entry["met"] for name, entry in found["targets"].items()} == {
        "speed": True,
        "solved_rate_gained": True,
        "extra_depth": False,
    }


def test_the_command_reports_both_searches(folder, capsys):
    against_published.main(model=folder, limit=3, simulations=6, block=2)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["published"]["questions"] == document["ours"]["questions"] == 3
    sides = document["by_question"]
    assert [f["question_id"] for f in sides["published"]] == [f["question_id"] for f in sides["ours"]]
    assert [f["base_correct"] for f in sides["published"]] == [f["base_correct"] for f in sides["ours"]]
    assert all((f["best_margin"] or 0) > 0 for f in sides["published"] if f["solved"])
    assert document["speed"]["ci95"][0] <= document["speed"]["value"]
