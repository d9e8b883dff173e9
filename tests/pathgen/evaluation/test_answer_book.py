import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from searched_runs import FULL, SINGLE_EDITS, choice_questions, write_run

from pathgen.engine.path_model import PathModel
from pathgen.evaluation import answer_book, answer_file
from pathgen.evaluation.answer_book import AnswerBook
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.static.run import open_book
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


@pytest.fixture
def book(run, evaluator):
    return open_book(run, "float32", lambda: evaluator)


def without_model(run):
    return open_book(run, "float32", lambda: pytest.fail("the model was loaded"))


def ask(book, run, paths, on_progress=lambda questions, evaluations: None):
    return book.answers([(question, [FULL, *paths]) for question in run.questions], on_progress)


def stored_file(run) -> Path:
    (found,) = Path(run.out, "static").iterdir()
    return found


def test_what_the_search_has_evaluated_needs_no_model(run):
    book = without_model(run)
    told = []
    ask(book, run, SINGLE_EDITS, lambda *news: told.append(news))
    assert told == [(5, 0)]
    assert not np.isnan(book.scores(run.questions, SINGLE_EDITS).quality).any()
    assert not Path(run.out, "static").exists()


def test_scores_are_what_the_evaluator_says(run, evaluator, book):
    scores = book.scores(run.questions, [FULL, *NEW])
    for row, question in enumerate(run.questions):
        prepared = evaluator.prepare(question)
        for column, found in enumerate(evaluator.evaluate([(prepared, path) for path in (FULL, *NEW)])):
            assert scores.correct[row, column] == found.correct
            assert scores.margin[row, column] == pytest.approx(found.margin, abs=1e-4)
            quality = 0.5 * found.correct + 0.5 / (1 + math.exp(-found.margin))
            assert scores.quality[row, column] == pytest.approx(quality, abs=1e-4)


def test_answers_stand_in_the_order_asked(run, evaluator, book):
    asked = [(question, NEW[: 1 + row % 3]) for row, question in enumerate(reversed(run.questions))]
    for (question, paths), answers in zip(asked, book.answers(asked), strict=True):
        prepared = evaluator.prepare(question)
        assert [answer.path for answer in answers] == paths
        alone = evaluator.evaluate([(prepared, path) for path in paths])
        assert [answer.margin for answer in answers] == pytest.approx([one.margin for one in alone], abs=1e-4)


def test_a_pair_asked_twice_in_one_call_runs_once(model, evaluator):
    (question,) = choice_questions(1)
    twin = Question("twin", question.prompt, question.choices, question.gold)
    book = AnswerBook(find_task("arc"), lambda: evaluator)
    (first, second), (third,) = book.answers([(question, [NEW[0], NEW[0]]), (twin, [NEW[0]])])
    assert first == second == third
    assert sum(evaluator.asked.values()) == 1


def test_a_second_call_and_a_second_book_evaluate_nothing(run, evaluator, book):
    ask(book, run, NEW)
    assert set(evaluator.asked.values()) == {1}
    assert sum(evaluator.asked.values()) == 5 * 3
    again = without_model(run)
    ask(again, run, [*NEW, *SINGLE_EDITS])
    first, second = (each.scores(run.questions, NEW) for each in (book, again))
    assert np.array_equal(first.correct, second.correct)
    assert np.array_equal(first.margin, second.margin)
    assert np.array_equal(first.quality, second.quality)


@pytest.fixture
def one_question_a_batch(monkeypatch):
    monkeypatch.setitem(answer_book.PAIRS_TOGETHER, "cpu", 1)


@pytest.mark.usefixtures("one_question_a_batch")
def test_an_interrupted_call_keeps_what_it_had(run, evaluator):
    evaluator.calls_left = 3
    with pytest.raises(KeyboardInterrupt):
        ask(open_book(run, "float32", lambda: evaluator), run, NEW)
    evaluator.calls_left = math.inf
    ask(open_book(run, "float32", lambda: evaluator), run, NEW)
    assert set(evaluator.asked.values()) == {1}
    assert len(evaluator.asked) == 5 * 3


@pytest.mark.usefixtures("one_question_a_batch")
def test_the_file_is_saved_while_it_grows(run, book, monkeypatch):
    monkeypatch.setattr(answer_file, "SAVE_EVERY_S", 0.0)
    sizes = []
    ask(book, run, NEW, lambda *_: sizes.append(Path(run.out, "static").exists()))
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
def test_an_unreadable_file_is_named_and_made_again(run, evaluator, book, caplog, damage):
    ask(book, run, NEW)
    stored_file(run).write_bytes(damage(stored_file(run).read_bytes()))
    ask(open_book(run, "float32", lambda: evaluator), run, NEW)
    assert set(evaluator.asked.values()) == {2}
    (warning,) = caplog.messages
    assert str(stored_file(run)) in warning
    assert "\n" not in warning
    ask(without_model(run), run, NEW)


def test_other_dtypes_are_kept_apart(run, evaluator, book):
    open_book(run, "bfloat16", lambda: evaluator).scores(run.questions, NEW[:1])
    # Full depth too: what the search found in float32 says nothing here.
    assert {path for _, path in evaluator.asked} == {FULL, NEW[0]}
    half = stored_file(run)
    book.scores(run.questions, NEW[:1])
    assert len({half, *Path(run.out, "static").iterdir()}) == 2


def test_what_was_left_out_is_evaluated_when_asked_for(run, evaluator, book):
    book.scores(run.questions[:2], NEW[2:])
    assert len(evaluator.asked) == 2
    scores = book.scores(run.questions, [FULL, NEW[2]])
    assert not np.isnan(scores.quality).any()
    assert set(evaluator.asked.values()) == {1}
    assert len(evaluator.asked) == 5


def test_a_path_without_a_finite_score_has_no_margin(run, book):
    (question,) = run.questions[:1]
    book.learn(question.sha, [Evaluation(NEW[0], correct=False, margin=None)])
    scores = book.scores([question], [NEW[0]])
    assert np.isnan(scores.margin).all()
    assert not scores.correct.any()
    assert not scores.quality.any()


def test_generated_answers_are_judged_relative_to_full_depth(tmp_path, tiny_model, model):
    questions = [Question(f"s{i}", f"{i} + {i}?", reference=str(2 * i)) for i in range(2)]
    evaluator = Evaluator(model, find_task("math"))
    run = SearchedRun.load(write_run(tmp_path / "sums", tiny_model, evaluator, questions, paths=SINGLE_EDITS[:1]))
    scores = open_book(run, "float32", lambda: evaluator).scores(run.questions, [FULL, NEW[0]])
    assert not scores.correct.any()
    assert scores.quality[:, 0] == pytest.approx([0.25, 0.25])
    shift = scores.margin[:, 1] - scores.margin[:, 0]
    assert scores.quality[:, 1] == pytest.approx(0.5 / (1 + np.exp(-shift)))


def test_many_questions_each_along_a_path_are_as_alone(evaluator):
    questions = choice_questions(20)
    told = []
    book = AnswerBook(find_task("arc"), lambda: evaluator)
    answers = book.answers([(question, NEW[:1]) for question in questions], lambda *news: told.append(news))
    assert told == [(16, 16), (4, 4)]
    alone = [evaluator.evaluate([(evaluator.prepare(question), NEW[0])])[0] for question in questions]
    assert [found.correct for (found,) in answers] == [evaluation.correct for evaluation in alone]
