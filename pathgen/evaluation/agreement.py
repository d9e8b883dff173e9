"""Whether two evaluations of a question give the same answer, right or wrong."""

from __future__ import annotations

from ..paths.records import Evaluation
from ..questions import grading
from ..questions.question import Question


def same_answer(question: Question, first: Evaluation, second: Evaluation) -> bool:
    """Whether both answers are the same.

    Of choices, the texts of the best ones are compared; of generated answers, what `grading.same_answer` compares. An
    evaluation with a score that is not finite has no answer, so it differs from every other.
    """
    if first.margin is None or second.margin is None:
        return False
    if question.choices is not None and first.choice_scores is not None and second.choice_scores is not None:
        return _best(question.choices, first.choice_scores) == _best(question.choices, second.choice_scores)
    return grading.same_answer(first.answer or "", second.answer or "", question.reference or "")


def _best(choices: tuple[str, ...], scores: tuple[float, ...]) -> str:
    """The text of the choice with the highest score; the first one if several are equal."""
    return choices[max(range(len(scores)), key=scores.__getitem__)]
