"""What each system does with a tiny model, against what it is said to be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from bench_runs import (
    SHORT,
    make_questions,
    save_reading_router,
    save_static_router,
    searched_records,
    write_questions,
    write_searched_run,
)

from infer.bench.inputs import BenchInputs
from infer.bench.options import BenchOptions
from infer.bench.systems import EXIT_THRESHOLDS, Systems, Unavailable
from infer.systems.early_exit import EarlyExit
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.answer_book import Scores
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from router.dev.routed_scores import route
from router.net.policy import RouterPolicy
from router.saved.loading import load_router

OWN, OTHERS = make_questions("own", 10), make_questions("other", 14)
FULL = LayerPath.full(6)


@pytest.fixture(scope="module")
def evaluator(tiny_model):
    return Evaluator(PathModel.from_pretrained(str(tiny_model)), find_task("arc"))


@pytest.fixture(scope="module")
def files(tiny_model, tmp_path_factory):
    """Questions, a searched run, a router that reads, and gates."""
    folder = tmp_path_factory.mktemp("bench")
    return {
        "questions": write_questions(folder / "q.jsonl", OWN),
        "paths": write_searched_run(folder / "paths", tiny_model, OWN + OTHERS),
        "router": save_reading_router(folder / "router", tiny_model),
        "gates": save_static_router(folder / "gates", tiny_model, SHORT, actions=("skip", "execute")),
    }


@pytest.fixture(scope="module")
def make(tiny_model, files, evaluator):
    """Makes systems from some of the files."""

    def make(*, routers=("router", "skip_gate"), paths=True, batch_size=8, questions=OWN, task="arc"):
        given = {"router": files["router"], "skip_gate": files["gates"]}
        options = BenchOptions(
            model=str(tiny_model),
            task=task,
            questions=files["questions"] if task == "arc" else "builtin-math",
            routers={name: given[name] for name in routers},
            paths=(files["paths"],) if paths else (),
            batch_size=batch_size,
            quiet=True,
        )
        used = evaluator if task == "arc" else Evaluator(evaluator.model, find_task(task))
        return Systems(BenchInputs.load(options), questions, used, options, {})

    return make


def test_full_is_the_model_as_published(make, evaluator):
    result = make().result("full")
    assert set(result.paths) == {FULL}
    alone = [evaluator.evaluate([(evaluator.prepare(question), FULL)])[0] for question in OWN]
    assert result.correct.tolist() == [evaluation.correct for evaluation in alone]
    best = [question.choices[int(np.argmax(e.choice_scores))] for question, e in zip(OWN, alone, strict=True)]
    assert [answer.answer for answer in result.answers] == best


def test_the_router_runs_the_paths_that_it_decides_on_prompts(make, evaluator, files):
    result = make().result("router")
    paths = route(evaluator, RouterPolicy(load_router(files["router"])), OWN)
    assert result.paths == paths
    assert len(set(paths)) > 1
    alone = [evaluator.evaluate([(evaluator.prepare(q), path)])[0] for q, path in zip(OWN, paths, strict=True)]
    assert result.correct.tolist() == [evaluation.correct for evaluation in alone]


def test_the_oracle_is_the_shards_replayed(make, tiny_model, monkeypatch):
    systems = make()
    monkeypatch.setattr(systems.evaluator, "evaluate", lambda asked: pytest.fail("the oracle runs nothing"))
    result = systems.result("oracle")
    records = searched_records(tiny_model, OWN)
    assert result.paths == [record.best_path for record in records]
    assert result.correct.tolist() == [record.status in ("improved", "kept") for record in records]
    assert {record.status for record in records} == {"improved", "kept", "unsolved"}
    np.testing.assert_allclose([a.margin for a in result.answers], [r.best_margin for r in records], atol=1e-4)


def test_the_oracle_needs_every_question(make):
    with pytest.raises(Unavailable, match="2 of 12 questions have no record"):
        make(questions=OWN + make_questions("new", 2)).result("oracle")


def test_questions_of_the_bench_fit_nothing(make):
    inputs = make().inputs
    assert {record.question.id for record in inputs.fit} == {question.id for question in OTHERS}
    assert set(inputs.records) == {question.sha for question in OWN}


def test_static_is_full_depth_where_no_other_path_is_clearly_better_on_other_questions(make, monkeypatch):
    systems = make()
    result = systems.result("static")
    assert set(result.paths) == {FULL}  # the tiny model guesses
    assert result.setting == str(FULL)
    candidates = systems.static_candidates()
    assert FULL in candidates

    # One candidate is right on all, the others on none: four of fourteen questions propose, ten judge.
    asked = []

    def scores(name, questions, paths):
        asked.append([question.id for question in questions])
        correct = np.array([[path == candidates[3] for path in paths]] * len(questions))
        return Scores(correct, correct - 0.5, correct.astype(float))

    monkeypatch.setattr(systems, "static_candidates", lambda: candidates)
    monkeypatch.setattr(systems, "_scores_of", scores)
    assert systems._clearly_best() == candidates[3]
    assert asked == [[question.id for question in OTHERS[4:]]]


def test_random_and_shuffled_keep_what_they_should(make):
    systems = make()
    routed, drawn, dealt = (systems.result(name).paths for name in ("router", "random", "shuffled"))
    assert [path.depth for path in drawn] == [path.depth for path in routed]
    assert Counter(dealt) == Counter(routed)
    assert systems.result("shuffled").mean_depth == systems.result("router").mean_depth


def test_shortgpt_is_one_path_of_the_routers_depth_or_less_than_full(make):
    systems = make()
    (path,) = set(systems.result("shortgpt").paths)
    assert path.depth == min(round(systems.result("router").mean_depth), 5)
    assert set(path) <= {0, 1}
    (short,) = set(make(routers=()).result("shortgpt").paths)  # then the static path says how deep
    assert short.depth <= 5


def test_early_exit_sweeps_thresholds_and_takes_the_nearest_depth(make, evaluator):
    systems = make()
    result = systems.result("early_exit")
    assert [point.setting for point in result.points] == list(EXIT_THRESHOLDS)
    prompts = [evaluator.prepare(question).prompt_ids for question in OWN]
    assert result.paths == decide_paths(evaluator.model, EarlyExit(evaluator.model, result.setting), prompts)
    wanted = systems.result("router").mean_depth
    nearest = min(abs(point.mean_depth - wanted) for point in result.points)
    assert abs(result.mean_depth - wanted) == nearest
    for answer in result.answers:
        assert answer.effort.probes == min(answer.path.depth, 5)


def test_a_repeated_block_is_chosen_elsewhere_and_swept_here(make):
    result = make().result("repeat_block")
    assert [point.setting for point in result.points] == [1.0, 2.0]
    assert [point.mean_depth for point in result.points] == [7.0, 8.0]
    assert result.mean_depth == 6 + result.setting
    chosen = next(point for point in result.points if point.setting == result.setting)
    assert chosen.accuracy == result.correct.mean()


def test_gates_are_the_router_of_that_name(make):
    assert set(make().result("skip_gate").paths) == {SHORT}


def test_search_counts_all_that_it_ran(make):
    result = make().result("search")
    for answer in result.answers:
        assert answer.effort.passes > 1
        assert sum(answer.effort.executions) > answer.path.depth


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("router", "no router: give --router DIR"),
        ("skip_gate", "give --router skip_gate=DIR"),
        ("oracle", "10 of 10 questions have no record"),
        ("static", "no --paths with questions of this task outside"),
        ("random", "no router or static path whose depth could be matched"),
        ("shortgpt", "no router or static path whose depth could be matched"),
        ("shuffled", "no router whose paths can be shuffled"),
    ],
)
def test_a_system_without_its_data_says_what_is_missing(make, name, reason):
    with pytest.raises(Unavailable, match=reason):
        make(routers=(), paths=False).result(name)


def test_some_systems_need_no_data(make):
    systems = make(routers=(), paths=False)
    assert systems.result("early_exit").setting == 0.99
    assert systems.result("repeat_block").setting == 1.0


def test_search_stands_aside_where_answers_are_generated(make):
    with pytest.raises(Unavailable, match="confidence among choices"):
        make(routers=(), paths=False, task="math").result("search")


def test_batches_change_nothing(make):
    one, eight = make(batch_size=1), make(batch_size=8)
    for name in ("full", "router", "static", "random", "shortgpt", "early_exit", "repeat_block", "search", "shuffled"):
        a, b = one.result(name), eight.result(name)
        assert a.paths == b.paths, name
        assert a.correct.tolist() == b.correct.tolist(), name
        assert a.points == b.points, name
        margins = [[answer.margin for answer in result.answers] for result in (a, b)]
        np.testing.assert_allclose(*margins, atol=1e-4)


def test_a_pair_runs_once_however_many_systems_take_it(make, monkeypatch):
    systems = make()
    asked = []
    evaluate = systems.evaluator.evaluate
    monkeypatch.setattr(
        systems.evaluator,
        "evaluate",
        lambda pairs: asked.extend((p.question.id, path) for p, path in pairs) or evaluate(pairs),
    )
    for name in ("full", "static", "router", "repeat_block", "early_exit", "shuffled"):
        systems.result(name)
    assert len(asked) == len(set(asked))
