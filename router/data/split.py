"""The split of questions into training and development, without a question on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pathgen.errors import InputError, some
from pathgen.paths.records import HASH_BITS, seeded_hash
from pathgen.questions.question import Question


def held_out(question_id: str, share: float, seed: int = 0) -> bool:
    """Whether a question is held out, for a share of 0 to 1.

    The answer depends on id, share and seed only, not on other questions. A larger share includes a smaller one.

    Raises:
        ValueError: the share is outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the held-out share must be between 0 and 1; got {share:g}")
    return seeded_hash(seed, question_id) < share * 2**HASH_BITS


def check_disjoint(training: Iterable[Question], dev: Iterable[Question]) -> None:
    """Check that no development question is trained on; questions are equal by id or by `folded` prompt.

    Raises:
        InputError: some are; names the first five.
    """
    known = list(training)
    ids, texts = {question.id for question in known}, {folded(question.prompt) for question in known}
    shared = [question.id for question in dev if question.id in ids or folded(question.prompt) in texts]
    if shared:
        raise InputError(
            f"{len(shared)} development questions are among those trained on, by id or by text ({some(shared)}); "
            "give development paths of other questions"
        )


def twins_of_dev(rows: Iterable[tuple[Question, bool]], is_dev: Callable[[str], bool]) -> frozenset[str]:
    """Ids of questions that are not held out and have the `folded` prompt of a held-out one.

    A router reads only the prompt, so for it they are one question.

    Args:
        rows: as `PathDatasets.rows`.
        is_dev: whether a question of this id is held out, if it counts.
    """
    texts = [(question.id, folded(question.prompt), counts) for question, counts in rows]
    dev_texts = {text for name, text, counts in texts if counts and is_dev(name)}
    return frozenset(name for name, text, _ in texts if text in dev_texts and not is_dev(name))


def folded(text: str) -> str:
    """A text without case and spacing; questions of one folded prompt are the same for a router."""
    return " ".join(text.casefold().split())
