import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from searched_runs import FULL, SINGLE_EDITS, choice_questions, write_run

from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.static import path_table
from pathgen.static.path_table import PathTable
from pathgen.store.run_reader import SearchedRun

NEW = [LayerPath([0, 1, 0, 1, 1, 1]), LayerPath([0, 1, 1, 1, 2, 1]), LayerPath([1, 0, 0, 0, 1, 2])]
"""What no single move makes."""


class CountingEvaluator(Evaluator):
    """Counts what it is asked, and fails after so many calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked = Counter()
        self.calls_left = math.inf

    def evaluate(self, asked):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise KeyboardInterrupt
        self.asked.update((prepared.question.id, path) for prepared, path in asked)
        return super().evaluate(asked)


@pytest.fixture(scope="module")
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


@pytest.fixture
def evaluator(model):
    return CountingEvaluator(model, find_task("arc"))


@pytest.fixture
def run(tmp_path, tiny_model, model) -> SearchedRun:
    searcher = Evaluator(model, find_task("arc"))
    return SearchedRun.load(write_run(tmp_path / "run", tiny_model, searcher, choice_questions(5)))


def open_table(run, evaluator, dtype="float32"):
    return PathTable(run, dtype, lambda: evaluator)


def stored_file(table) -> Path:
    return Path(table.path)


def test_what_the_search_has_evaluated_needs_no_model(run):
    table = PathTable(run, "float32", lambda: pytest.fail("the model was loaded"))
    told = []
    table.evaluate(run.questions, SINGLE_EDITS, lambda *news: told.append(news))
    assert told == [(5, 0)]
    assert not np.isnan(table.scores(run.questions, SINGLE_EDITS).quality).any()
    assert not stored_file(table).exists()


def test_scores_are_what_the_evaluator_says(run, evaluator):
    table = open_table(run, evaluator)
    table.evaluate(run.questions, NEW)
    scores = table.scores(run.questions, [FULL, *NEW])
    for row, question in enumerate(run.questions):
        prepared = evaluator.prepare(question)
        for column, found in enumerate(evaluator.evaluate([(prepared, path) for path in (FULL, *NEW)])):
            assert scores.correct[row, column] == found.correct
            assert scores.margin[row, column] == pytest.approx(found.margin, abs=1e-4)
            quality = 0.5 * found.correct + 0.5 / (1 + math.exp(-found.margin))
            assert scores.quality[row, column] == pytest.approx(quality, abs=1e-4)


def test_a_second_call_and_a_second_table_evaluate_nothing(run, evaluator):
    table = open_table(run, evaluator)
    table.evaluate(run.questions, NEW)
    assert set(evaluator.asked.values()) == {1}
    assert sum(evaluator.asked.values()) == 5 * 3
    again = PathTable(run, "float32", lambda: pytest.fail("the model was loaded"))
    again.evaluate(run.questions, [*NEW, *SINGLE_EDITS])
    first, second = (each.scores(run.questions, NEW) for each in (table, again))
    assert np.array_equal(first.correct, second.correct)
    assert np.array_equal(first.margin, second.margin)
    assert np.array_equal(first.quality, second.quality)


def test_an_interrupted_call_keeps_what_it_had(run, evaluator):
    evaluator.calls_left = 3
    with pytest.raises(KeyboardInterrupt):
        open_table(run, evaluator).evaluate(run.questions, NEW)
    evaluator.calls_left = math.inf
    open_table(run, evaluator).evaluate(run.questions, NEW)
    assert set(evaluator.asked.values()) == {1}
    assert len(evaluator.asked) == 5 * 3


def test_the_table_is_saved_while_it_grows(run, evaluator, monkeypatch):
    monkeypatch.setattr(path_table, "FLUSH_EVERY_S", 0.0)
    table, sizes = open_table(run, evaluator), []
    table.evaluate(run.questions, NEW, lambda *_: sizes.append(stored_file(table).exists()))
    assert sizes == [False, True, True, True, True]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no parquet",
        lambda data: data[: len(data) // 2],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    ],
    ids=["empty", "text", "truncated", "flipped"],
)
def test_an_unreadable_table_is_named_and_made_again(run, evaluator, caplog, damage):
    table = open_table(run, evaluator)
    table.evaluate(run.questions, NEW)
    stored_file(table).write_bytes(damage(stored_file(table).read_bytes()))
    open_table(run, evaluator).evaluate(run.questions, NEW)
    assert set(evaluator.asked.values()) == {2}
    (warning,) = caplog.messages
    assert table.path in warning
    assert "\n" not in warning
    PathTable(run, "float32", lambda: pytest.fail("the model was loaded")).evaluate(run.questions, NEW)


def test_other_dtypes_are_kept_apart(run, evaluator):
    half = open_table(run, evaluator, dtype="bfloat16")
    half.evaluate(run.questions, NEW[:1])
    # Full depth too: what the search found in float32 says nothing here.
    assert {path for _, path in evaluator.asked} == {FULL, NEW[0]}
    assert half.path != open_table(run, evaluator).path


def test_what_is_not_evaluated_is_nan(run, evaluator):
    table = open_table(run, evaluator)
    table.evaluate(run.questions[:2], NEW[2:])
    scores = table.scores(run.questions, [FULL, NEW[2]])
    assert not np.isnan(scores.quality[:, 0]).any()
    assert np.isnan(scores.quality[:, 1]).tolist() == [False, False, True, True, True]
    assert not scores.correct[2:, 1].any()


def test_generated_answers_are_judged_relative_to_full_depth(tmp_path, tiny_model, model):
    questions = [Question(f"s{i}", f"{i} + {i}?", reference=str(2 * i)) for i in range(2)]
    evaluator = Evaluator(model, find_task("math"))
    run = SearchedRun.load(write_run(tmp_path / "sums", tiny_model, evaluator, questions, paths=SINGLE_EDITS[:1]))
    table = PathTable(run, "float32", lambda: evaluator)
    table.evaluate(run.questions, NEW[:1])
    scores = table.scores(run.questions, [FULL, NEW[0]])
    assert not scores.correct.any()
    assert scores.quality[:, 0] == pytest.approx([0.25, 0.25])
    shift = scores.margin[:, 1] - scores.margin[:, 0]
    assert scores.quality[:, 1] == pytest.approx(0.5 / (1 + np.exp(-shift)))
