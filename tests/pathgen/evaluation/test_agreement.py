"""Which evaluations of a question give the same answer."""

from __future__ import annotations

from pathgen.evaluation.agreement import same_answer
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question

FULL = LayerPath.full(3)


def test_best_choices_are_compared_by_their_text():
    question = Question("q", "Which?", ("a", "b", "a"), 1)

    def scored(*scores):
        return Evaluation(FULL, False, 0.0, scores)

    assert same_answer(question, scored(1.0, 0.0, 0.0), scored(0.0, 1.0, 2.0))  # both answer `a`
    assert not same_answer(question, scored(1.0, 0.0, 0.0), scored(0.0, 1.0, 0.5))
    broken = Evaluation(FULL, False, None)
    assert not same_answer(question, broken, broken)


def test_generated_answers_are_compared_as_they_are_graded():
    question = Question("q", "How many?", reference="12")

    def generated(text):
        return Evaluation(FULL, False, -1.0, answer=text)

    assert same_answer(question, generated("7 of them: 8"), generated("So 8.0"))
    assert not same_answer(question, generated("8"), generated("12"))
