"""Development questions of two tasks: whose result is whose, and nothing is run twice."""

from __future__ import annotations

import numpy as np
import pytest
from path_runs import path
from router_commands import DEEP, FULL, SHALLOW

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import Cascade
from pathgen.evaluation.decided_paths import decide_paths
from pathgen.evaluation.evaluator import Evaluator
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from router.dev import dev_set as dev_module
from router.dev.dev_set import DevQuestion, DevSet

PATHS = [path(text) for text in (FULL, SHALLOW, DEEP, "..2-..")]


@pytest.fixture(scope="module")
def model(tiny_model):
    return PathModel.from_pretrained(str(tiny_model), dtype="float32", device="cpu")


@pytest.fixture
def questions():
    """Two tasks and two folders, mixed."""
    found = []
    for number in range(7, 13):  # of one digit and of two
        choices = (f"{number}", f"{number + 1}", "none")
        arc = Question(f"a{number}", f"How much is {number}?", choices, number % 3)
        maths = Question(f"m{number}", f"{number} and {number}?", reference=str(2 * number))
        found += [DevQuestion(maths, find_task("math"), "two"), DevQuestion(arc, find_task("arc"), "one")]
    return found


def test_each_question_is_answered_along_its_own_path(model, questions):
    dev = DevSet(model, questions, chat=False)
    paths = [PATHS[row % len(PATHS)] for row in range(len(dev.questions))]
    scores = dev.run(paths)
    assert {entry.question.id for entry in dev.questions} == {entry.question.id for entry in questions}
    for entry, taken, correct in zip(dev.questions, paths, scores.correct, strict=True):
        evaluator = Evaluator(model, entry.task, chat=False)
        (alone,) = evaluator.evaluate([(evaluator.prepare(entry.question), taken)])
        assert correct == alone.correct


def test_nothing_is_run_twice(model, questions, monkeypatch):
    ran = []
    evaluate = Evaluator.evaluate

    def counted(evaluator, asked):
        ran.extend((prepared.question.id, path) for prepared, path in asked)
        return evaluate(evaluator, asked)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    dev = DevSet(model, questions, chat=False)
    mixed = [PATHS[1 + row % 2] for row in range(len(dev.questions))]
    first = dev.run(mixed)
    again = dev.run(mixed)
    static = dev.run_static(PATHS[1])
    assert (first.correct == again.correct).all()
    assert static[::2].tolist() == first.correct[::2].tolist()
    assert len(ran) == len(set(ran)) == len(mixed) + len(mixed) // 2
    assert (dev.run_static(PATHS[0]) == dev.full).all()
    assert len(ran) == len(set(ran)) == 2 * len(mixed) + len(mixed) // 2


def test_full_depth_is_run_as_the_router_is(model, questions):
    """A policy that executes everything is full depth, so it gains nothing whatever a search has stored."""
    dev = DevSet(model, questions, chat=False)
    report = dev.report(dev.run([PATHS[0]] * len(questions)), dev.full, 0)
    assert (report.routed.delta_vs_full, report.routed.delta_ci95) == (0, (0, 0))
    alone = [
        evaluator.evaluate([(evaluator.prepare(entry.question), PATHS[0])])[0].correct
        for entry in dev.questions
        for evaluator in [Evaluator(model, entry.task, chat=False)]
    ]
    assert dev.full.tolist() == alone


def test_questions_are_routed_in_their_order_in_parts(model, questions, monkeypatch):
    monkeypatch.setattr(dev_module, "CHUNK_ROUTED", 4)
    dev = DevSet(model, questions, chat=False)

    class ByLength:
        """Skips the first layer on prompts of an odd number of tokens."""

        def actions(self, layer, hidden, prompt_mask):
            odd = prompt_mask.sum(-1) % 2
            return (1 - odd if layer == 0 else odd * 0 + 1).long()

    expected = []
    for entry in dev.questions:
        prompt = Evaluator(model, entry.task, chat=False).prepare(entry.question).prompt_ids
        expected.append(PATHS[1] if len(prompt) % 2 else PATHS[0])
    assert dev.route(ByLength()) == expected
    assert set(expected) == {PATHS[0], PATHS[1]}


def test_a_cascade_routes_by_gaps_that_are_found_once(model, questions, monkeypatch):
    dev = DevSet(model, questions, chat=False)
    gap = float(np.median(dev.next_token_gaps(PATHS[1])))
    ran = []
    states = PathModel.states
    monkeypatch.setattr(PathModel, "states", lambda *args, **options: ran.append(args) or states(*args, **options))
    part = dev.part(lambda question: question.choices is not None)
    assert part.next_token_gaps(PATHS[1]).tolist() == dev.next_token_gaps(PATHS[1])[:6].tolist()
    taken = dev.route(Cascade(PATHS[1], gap))
    assert not ran
    prompts = [Evaluator(model, entry.task).prepare(entry.question).prompt_ids for entry in dev.questions]
    assert taken == decide_paths(model, Cascade(PATHS[1], gap), prompts)
    assert set(taken) == {PATHS[0], PATHS[1]}


def test_quality_shares_prefixes_and_takes_the_first_of_each_task(model, questions):
    dev = DevSet(model, questions, chat=False)
    few, every = dev.quality(PATHS, 2), dev.quality(PATHS, None)
    assert few.shape == (4, 4)
    assert every.shape == (12, 4)
    assert few == pytest.approx(np.concatenate([every[:2], every[6:8]]), abs=1e-4)
    right = np.array([dev.run([taken] * 12).correct for taken in PATHS]).T
    assert ((every > 0.5) | ~right).all()  # a right path is worth at least 1/2
    assert ((every < 0.5) | right).all()


def test_the_report_tells_folders_apart(model, questions):
    dev = DevSet(model, questions, chat=False)
    routed = dev.run([PATHS[1] if entry.folder == "one" else PATHS[2] for entry in dev.questions])
    report = dev.report(routed, dev.full, 0, {"one": PATHS[2]})
    one, two = report.per_folder
    assert (one.folder, two.folder) == ("one", "two")
    assert (one.routed.mean_depth, two.routed.mean_depth, report.routed.mean_depth) == (5, 7, 6)
    assert (one.routed.off_common_share, two.routed.off_common_share, report.routed.off_common_share) == (0, 0, 0.5)
    of_one = np.array([entry.folder == "one" for entry in dev.questions])
    accuracies = (one.routed.full_accuracy, two.routed.full_accuracy, report.routed.full_accuracy)
    assert accuracies == (dev.full[of_one].mean(), dev.full[~of_one].mean(), dev.full.mean())
    own = dev.run([PATHS[2]] * len(dev.questions)).correct
    assert (one.own_static_accuracy, two.own_static_accuracy) == (own[of_one].mean(), None)
    gained = report.routed.routed_accuracy - report.routed.full_accuracy
    assert report.routed.delta_vs_full == pytest.approx(gained)


def test_progress_is_shown_with_rate_and_time_left(model, questions, monkeypatch, capsys):
    monkeypatch.setattr("cluster.program.progress.LINE_EVERY_S", 0.0)
    dev = DevSet(model, questions, chat=False, quiet=False)
    dev.run([PATHS[1]] * len(questions))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("development questions 12/12  ")
    assert "q/s  ETA 0:00" in lines[-1] or "q/min  ETA 0:00" in lines[-1]
    DevSet(model, questions, chat=False, quiet=True).run([PATHS[1]] * len(questions))
    assert capsys.readouterr().err == ""
