"""What is said about a run whose full depth is right on almost nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pathgen.errors import InputError
from pathgen.generate.low_accuracy import Asked, low_accuracy
from pathgen.questions.answer_options import AnswerOptions, parse_stop_texts
from pathgen.questions.question import Question
from pathgen.questions.tasks import described_task, find_task

LETTERS = [Question(str(n), "Q?", ("a", "b", "c", "d"), 0) for n in range(20)]
SUMS = [Question(str(n), "Q?", reference="7") for n in range(19)] + [
    Question("x", "Q?", reference="So it is three and four, and that makes seven.")
]


@pytest.mark.parametrize(
    ("task", "questions", "accuracy", "cut", "chat", "templated", "says"),
    [
        (
            "math",
            SUMS,
            0.0,
            18,
            False,
            True,
            ["18 of 20 answers were cut at 32", "--stop-text ''", "1 references cannot be read", "--chat"],
        ),
        ("math", SUMS, 0.0, 0, True, True, ["first line break"]),
        ("math", SUMS, 0.0, 0, False, False, ["a base model"]),
        ("arc-letter", LETTERS, 0.3, None, False, False, ["at chance, 25.0%", "--task arc"]),
        ("arc", LETTERS, 0.0, None, True, True, ["below chance", "answers="]),
    ],
)
def test_why_almost_nothing_is_right(task, questions, accuracy, cut, chat, templated, says):
    (text,) = low_accuracy(accuracy, 20, cut, Asked(find_task(task), questions, chat, templated))
    assert "\n" not in text
    assert all(part in text for part in says), text
    assert ("cut at" in text) == bool(cut)


@pytest.mark.parametrize(("task", "accuracy"), [("math", 0.1), ("arc-letter", 0.6), ("arc", 0.25)])
def test_nothing_is_said_where_enough_is_right_or_too_little_was_asked(task, accuracy):
    asked = Asked(find_task(task), SUMS if task == "math" else LETTERS, chat=False, templated=False)
    assert low_accuracy(accuracy, 20, 0, asked) == []
    assert low_accuracy(0.0, 5, 0, asked) == []
    assert low_accuracy(None, 20, 0, asked) == []


def test_length_and_stop_texts_of_answers_are_part_of_a_run():
    task = AnswerOptions(200, parse_stop_texts(["", "\\n\\n", "Question:"])).task("math")
    assert (task.max_new_tokens, task.stop) == (200, ("\n\n", "Question:"))
    described = task.describe(chat=False)
    assert (described["max_new_tokens"], described["stop"]) == (200, ["\n\n", "Question:"])
    assert described_task(described) == task
    assert AnswerOptions(stop_text=("",)).task("math").stop == ()
    assert AnswerOptions().task("math") == find_task("math")
    assert described_task(find_task("arc").describe(chat=True)) == find_task("arc")


@pytest.mark.parametrize("options", [AnswerOptions(200), AnswerOptions(stop_text=("x",))])
def test_a_task_that_generates_nothing_has_no_such_options(options):
    with pytest.raises(InputError, match="task arc generates no answer"):
        options.task("arc")
    assert replace(options, max_new_tokens=None, stop_text=()).task("arc") == find_task("arc")
