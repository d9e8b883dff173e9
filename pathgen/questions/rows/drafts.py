"""Rows read but for their gold, which is decided over all of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from ..parsing import parse_choices, parse_id, parse_reference, parse_text
from ..question import Needs, Question
from ..sources import SourceRow
from .columns import ColumnMap
from .gold import GoldReading, gold_readings
from .schemas import QUESTION_WORDS


@dataclass(frozen=True, slots=True)
class Draft:
    """A question without its gold; `readings` are the ways to read that, empty if it is not given."""

    question: Question
    answer: Any = None
    readings: Mapping[str, int] | None = None
    labels: tuple[str, ...] | None = None

    @property
    def answers_by_number(self) -> bool:
        """Whether the source has its answer as a number, not as text."""
        return isinstance(self.answer, int | float) and not isinstance(self.answer, bool)

    def finished(self, gold: GoldReading, *, ordered: bool) -> Question:
        """The question with its gold; without `ordered`, choices are put in an order that does not show gold.

        Raises:
            ValueError: the answer does not fit the other rows.
        """
        question = self.question
        if question.choices is None or self.readings is None:
            return question
        choices = question.choices
        right = choices[gold.index(self.readings, self.answer, self.labels or choices)]
        if not ordered:
            choices = tuple(sorted(choices, key=lambda text: _digest(question.prompt, text)))
        # Equal texts get the same score, so gold is the first of them.
        return replace(question, choices=choices, gold=choices.index(right))


def draft(row: SourceRow, columns: ColumnMap, needs: Needs, *, labelled: bool, worded: bool) -> Draft:
    """Read one row. Its id is empty if the source gives none.

    Args:
        row: readable.
        columns: where the fields are.
        needs: what the task needs.
        labelled: whether gold must be given.
        worded: whether the questions are QUESTION_WORDS.

    Raises:
        ValueError: a value cannot be used; one line for the user.
    """
    values = columns.values(row.values)
    question_id = parse_id(values["id"]) if "id" in values else ""
    prompt = parse_text(values["prompt"], "question")
    if worded:
        prompt = QUESTION_WORDS[prompt]
    context = values.get("context")
    if context is not None and context != "":
        prompt = f"{parse_text(context, 'context').strip()}\n{prompt}"
    if needs == "reference":
        return Draft(Question(question_id, prompt, reference=parse_reference(values["reference"])))
    given = values["choices"]
    texts, labels = parse_choices(given)
    implied = columns.labels is not None or (isinstance(given, dict) and "label" not in given)
    if columns.labels is not None:
        labels = columns.labels[: len(texts)]
    answer, readings = values.get("gold"), None
    if labelled or answer is not None:
        readings = gold_readings(answer, texts, labels, implied=implied)
    if columns.paths.get("gold") == "correct":
        texts = _without_letters(texts)
    return Draft(Question(question_id, prompt, texts), answer, readings, labels)


def are_question_words(rows: Iterable[SourceRow], columns: ColumnMap) -> bool:
    """Whether all questions are QUESTION_WORDS, about a context."""
    if "context" not in columns.paths:
        return False
    return all(columns.values(row.values)["prompt"] in tuple(QUESTION_WORDS) for row in rows)


def _without_letters(texts: Sequence[str]) -> tuple[str, ...]:
    """`A)21`, `B)22` … as 21, 22: sets that have their answer in `correct` write the letter into the text (AQuA)."""
    lettered = zip(ascii_uppercase, texts, strict=False)
    pairs = [(text, re.sub(rf"^\(?{letter}\s*[).:]\s*", "", text)) for letter, text in lettered]
    bare = tuple(short for text, short in pairs if short and short != text)
    return bare if len(bare) == len(texts) and len(set(bare)) > 1 else tuple(texts)


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
