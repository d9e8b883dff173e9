"""Which questions are held out, and that no question stands on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pathgen.errors import InputError, some
from pathgen.paths.records import HASH_BITS, seeded_hash
from pathgen.questions.question import Question


def held_out(question_id: str, share: float, seed: int = 0) -> bool:
    """Whether a question is among a held-out share of all.

    A question's lot hangs on its id and the seed alone, so it outlives new questions and another order, and
    a larger share holds out all that a smaller one does.

    Args:
        question_id: the question.
        share: of questions to hold out, 0 to 1.
        seed: another one draws another share.

    Raises:
        ValueError: on a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the held-out share lies between 0 and 1; got {share:g}")
    return seeded_hash(seed, question_id) < share * 2**HASH_BITS


def check_disjoint(training: Iterable[Question], dev: Iterable[Question]) -> None:
    """See that no development question is trained on, by its id or by its prompt, case and spaces aside.

    Raises:
        InputError: some are; names the first five.
    """
    ids, texts = set(), set()
    for question in training:
        ids.add(question.id)
        texts.add(folded(question.prompt))
    shared = [question.id for question in dev if question.id in ids or folded(question.prompt) in texts]
    if shared:
        raise InputError(
            f"{len(shared)} development questions are among those trained on, by id or by text ({some(shared)}); "
            "give development paths of other questions"
        )


def twins_of_dev(rows: Iterable[tuple[Question, bool]], is_dev: Callable[[str], bool]) -> frozenset[str]:
    """Ids of questions that are not held out and ask what a held-out one asks, case and spaces aside.

    A router sees the prompt alone, so to it they are one question, whatever their ids and choices.

    Args:
        rows: all questions there are, and whether each counts: one under a second id or in a second folder does not.
        is_dev: whether a question of this id is held out, if it counts.
    """
    dev_texts: set[str] = set()
    others: list[tuple[str, str]] = []
    for question, counts in rows:
        text = folded(question.prompt)
        if not is_dev(question.id):
            others.append((question.id, text))
        elif counts:
            dev_texts.add(text)
    return frozenset(question_id for question_id, text in others if text in dev_texts)


def folded(text: str) -> str:
    """A text without its case and spacing, by which two questions are one to a router."""
    return " ".join(text.casefold().split())
