"""`pathgen static` on a tiny model: from run folders to the file, resumed, raced and refused."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from commands import pathgen
from searched_runs import FULL, choice_questions, write_run

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import Task, find_task
from pathgen.static import draw as static_draw
from pathgen.static import run as static_run
from pathgen.static.draw import SCAN_SHARE
from pathgen.static.static_paths import StaticPaths
from pathgen.store.run_reader import SearchedRun

QUESTIONS = 40
JUDGED = QUESTIONS - QUESTIONS // SCAN_SHARE
SIZES = (("many", 4000), ("few", 100))


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny_model, model):
    """A run's folder; its table grows from test to test, as it may."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    return write_run(folder, tiny_model, Evaluator(model, find_task("arc")), choice_questions(QUESTIONS))


@pytest.fixture
def evaluations(monkeypatch):
    """Counts (question id, path) as evaluators are asked."""
    asked: Counter[tuple[str, LayerPath]] = Counter()
    evaluate = Evaluator.evaluate

    def counted(self, pairs):
        asked.update((prepared.question.id, path) for prepared, path in pairs)
        return evaluate(self, pairs)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    return asked


def call(out, *folders, **options):
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    paths = [part for folder in folders for part in ("--paths", folder)]
    return pathgen("static", *paths, "--out", out, "--threads", 1, "--quiet", *flags)


def test_it_finds_writes_and_tells(searched, tmp_path):
    out = tmp_path / "static.json"
    answer = call(out, searched)
    assert answer.code == 0
    assert f"next: router train --method static --static {out} --paths {searched} --out ROUTER" in answer.stdout
    found = StaticPaths.from_json(out.read_bytes(), str(out))
    assert (found.tasks, found.questions, found.folds, found.num_layers) == (("arc",), JUDGED, 5, 6)
    assert [entry.depth for entry in found.frontier] == [5, 6, 7, 8]
    for entry in found.frontier:
        assert str(entry.path) in answer.stdout
        assert entry.cv_delta_vs_full == pytest.approx(entry.cv_accuracy - found.full.accuracy)
    (folder,) = found.per_folder
    assert (folder.folder, folder.questions, folder.full_accuracy) == (searched, JUDGED, found.full.accuracy)
    assert folder.choice_cv_accuracy == found.choice.cv_accuracy
    assert folder.shallow_cv_accuracy == found.shallow_choice.cv_accuracy
    assert f"{found.choice.cv_accuracy:.1%} ({100 * found.choice.cv_delta_vs_full:+.1f}" in answer.stdout
    assert len(found.chosen_on) == QUESTIONS


def test_its_accuracies_are_those_of_the_model(searched, tmp_path, model):
    out = tmp_path / "static.json"
    assert call(out, searched).code == 0
    found = StaticPaths.from_json(out.read_bytes(), str(out))
    evaluator = Evaluator(model, find_task("arc"))
    options = static_run.StaticOptions("unused", (searched,))
    _, judged = static_draw.draw_questions(static_run.load_runs(options), options.seed)
    prepared = [evaluator.prepare(entry.question) for entry in judged]
    for entry in (found.full, *found.frontier):
        right = [evaluation.correct for evaluation in evaluator.evaluate([(each, entry.path) for each in prepared])]
        assert entry.accuracy == pytest.approx(sum(right) / JUDGED)


def test_a_second_call_evaluates_nothing_and_finds_the_same(searched, tmp_path, evaluations):
    first = call(tmp_path / "one.json", searched, seed=7)
    assert evaluations
    assert set(evaluations.values()) == {1}
    assert FULL not in {path for _, path in evaluations}  # the search has it
    before = evaluations.total()
    second = call(tmp_path / "two.json", searched, seed=7)
    assert (first.code, second.code) == (0, 0)
    assert evaluations.total() == before
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_json_is_the_file_and_where_it_is(searched, tmp_path):
    out = tmp_path / "static.json"
    answer = call(out, searched, limit=30)
    shown = pathgen("static", "--paths", searched, "--out", out, "--limit", 30, "--threads", 1, "--quiet", "--json")
    assert (answer.code, shown.code) == (0, 0)
    assert shown.json == {"out": str(out), **json.loads(out.read_bytes())}
    assert shown.json["questions"] == 30 - 30 // SCAN_SHARE


def test_racing_spares_evaluations(tmp_path, tiny_model, model, monkeypatch, evaluations):
    monkeypatch.setattr(static_run, "RACE_EVERY_QUESTIONS", 15)
    run = write_run(tmp_path / "run", tiny_model, Evaluator(model, find_task("arc")), choice_questions(QUESTIONS))
    evaluations.clear()
    out = tmp_path / "static.json"
    # Every path that is edited is dropped at the first chance.
    monkeypatch.setattr(static_run, "survivors", lambda quality, depths, full: [i == full for i in range(len(depths))])
    assert call(out, run).code == 0
    by_question = Counter(question for question, _ in evaluations)
    assert len(by_question) == 15
    found = StaticPaths.from_json(out.read_bytes(), str(out))
    assert [entry.path for entry in found.frontier] == [FULL]
    assert found.best == found.shallow == found.full


def test_several_folders_are_one_set_and_told_apart(searched, tmp_path, tiny_model, model):
    letters = Evaluator(model, find_task("arc-letter"))
    questions = [Question(q.id, f"{q.prompt} Say.", q.choices, q.gold) for q in choice_questions(25)]
    other = write_run(tmp_path / "letters", tiny_model, letters, questions)
    out = tmp_path / "static.json"
    answer = call(out, searched, other, limit=25)
    assert answer.code == 0
    found = StaticPaths.from_json(out.read_bytes(), str(out))
    assert found.tasks == ("arc", "arc-letter")
    assert found.questions == 50 - 50 // SCAN_SHARE
    assert [(part.folder, part.task) for part in found.per_folder] == [(searched, "arc"), (other, "arc-letter")]
    whole = sum(part.questions * part.full_accuracy for part in found.per_folder) / found.questions
    assert found.full.accuracy == pytest.approx(whole)
    assert f"{other} (arc-letter, {found.per_folder[1].questions})" in answer.stdout


def test_equal_questions_of_two_folders_are_never_in_different_folds(searched, tmp_path, tiny_model, model):
    renamed = [Question(f"other-{q.id}", q.prompt, q.choices, q.gold, q.reference) for q in choice_questions(QUESTIONS)]
    again = write_run(tmp_path / "again", tiny_model, Evaluator(model, find_task("arc")), renamed)
    options = static_run.StaticOptions("unused", (searched, again))
    runs = static_run.load_runs(options)
    scanned, judged = static_draw.draw_questions(runs, options.seed)
    folds = {}
    for entry, fold in zip(judged, static_draw.draw_folds(runs, judged, options.folds), strict=True):
        folds.setdefault(entry.question.sha, set()).add(fold)
    assert all(len(found) == 1 for found in folds.values())
    assert not {entry.question.sha for entry in scanned} & {entry.question.sha for entry in judged}
    assert len(scanned) + len(judged) == 2 * QUESTIONS - (2 * QUESTIONS // SCAN_SHARE) % 2


def test_folders_of_unequal_size_take_part_evenly_in_scan_and_race():
    questions = {name: [Question(f"{name}{i}", f"{name} {i}?", ("a", "b"), 0) for i in range(n)] for name, n in SIZES}
    options = static_run.StaticOptions("unused", tuple(questions), limit=200)
    runs = []
    for name, held in questions.items():
        taken = set(
            static_draw.taking_part(
                [(q.id, q.sha) for q in held], options.limit, options.seed, lambda question_id: True
            )
        )
        assert len(taken) == min(200, len(held))
        runs.append(SimpleNamespace(out=name, questions=[q for q in held if q.id in taken]))
    scanned, judged = static_draw.draw_questions(runs, options.seed)
    for part in (scanned, judged[: static_run.RACE_EVERY_QUESTIONS], judged):
        shares = np.bincount([entry.run for entry in part], minlength=2) / len(part)
        assert shares == pytest.approx([2 / 3, 1 / 3], abs=0.02)


def test_a_folder_too_small_to_judge_by_is_refused(searched, tmp_path, tiny_model, model):
    small = write_run(tmp_path / "small", tiny_model, Evaluator(model, find_task("arc-letter")), choice_questions(3))
    answer = call(tmp_path / "static.json", searched, small)
    assert answer.code == 2
    assert (
        f"{small}: too few searched questions (2 are left to judge paths by, at least 3 are needed); " in answer.error
    )


def asked_of(**sizes):
    """Folders of so many questions, and their questions as if all judged."""
    runs = [SimpleNamespace(out=name) for name in sizes]
    questions = [
        static_draw.Asked(run, Question(f"{name}{i}", f"{name} {i}?", ("a", "b"), 0))
        for run, (name, count) in enumerate(sizes.items())
        for i in range(count)
    ]
    return runs, questions


@pytest.mark.parametrize(
    ("sizes", "folds"), [({"one": 13}, 5), ({"one": 4}, 4), ({"one": 3}, 3), ({"large": 40, "small": 7}, 5)]
)
def test_folds_are_even_and_no_more_than_the_questions_of_the_smallest_folder(sizes, folds):
    runs, judged = asked_of(**sizes)
    found = static_draw.draw_folds(runs, judged, 5)
    for index in range(len(runs)):
        counts = np.bincount([fold for entry, fold in zip(judged, found, strict=True) if entry.run == index])
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("sizes", [{"one": 2}, {"one": 40, "none": 0}])
def test_two_questions_are_too_few_to_judge_by(sizes):
    with pytest.raises(static_draw.TooFewQuestions, match="at least 3"):
        static_draw.draw_folds(*asked_of(**sizes), 5)


@pytest.mark.parametrize("limit", [4, 7, 13])
def test_a_small_run_has_static_paths_too(searched, tmp_path, limit):
    answer = call(tmp_path / "static.json", searched, limit=limit)
    assert answer.code == 0
    found = StaticPaths.from_json((tmp_path / "static.json").read_bytes(), "it")
    assert (found.questions, found.folds) == (limit - limit // SCAN_SHARE, min(5, limit - limit // SCAN_SHARE))


def test_what_the_search_learned_is_kept_of_the_questions_that_take_part_alone(searched):
    run = SearchedRun.load(searched, lambda found: [name for name, _ in found][5:8])
    assert len(run.questions) == len(run.evaluations) == 3
    (whole,) = static_run.load_runs(static_run.StaticOptions("unused", (searched,)))
    (part,) = static_run.load_runs(static_run.StaticOptions("unused", (searched,), limit=7))
    assert len(whole.evaluations) == QUESTIONS
    assert len(part.evaluations) == 7
    assert set(part.questions) < set(whole.questions)


def test_runs_of_other_models_are_refused(searched, tmp_path, tiny_model, model):
    evaluator = Evaluator(model, find_task("arc"))
    other = write_run(tmp_path / "other", tiny_model, evaluator, choice_questions(20), model_print="0" * 16)
    together = call(tmp_path / "static.json", searched, other)
    assert together.code == 4
    assert "one path serves one model" in together.error
    changed = call(tmp_path / "static.json", other)  # its model's folder holds other weights now
    assert changed.code == 4
    assert " now has " in changed.error


def test_a_run_whose_task_asks_otherwise_now_is_refused(searched, tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "prompt", lambda self, question: f"Q: {question.prompt}\nA:")
    answer = call(tmp_path / "static.json", searched)
    assert answer.code == 4
    assert f"{searched} was searched when task arc had another template ('Question: {{question}}" in answer.error


def test_wrong_use_is_one_line_and_exit_2(searched, tmp_path):
    out = tmp_path / "static.json"
    for answer, reason in (
        (call(out, tmp_path / "nothing"), "holds no run"),
        (call(out, searched, searched), "names a folder twice"),
        (call(tmp_path, searched), "is a folder"),
        (call("/proc/below/static.json", searched), "--out /proc/below/static.json cannot be written"),
        (call(out, searched, limit=3), "too few searched questions (2 are left to judge paths by"),
        (call(out, searched, folds=2), "--folds"),
        (call(out, searched, dtype="float7"), "--dtype must be one of float32, bfloat16, float16; got 'float7'"),
        (call(out, searched, device="mps"), "--device must be cpu, cuda or cuda:N; got 'mps'"),
    ):
        assert answer.code == 2
        assert reason in answer.error
    assert not out.exists()
