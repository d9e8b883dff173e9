r"""Grades generated answers: the answer of a text and the reference go through one normaliser, and are compared.

Mathematics is compared by value in any notation: `1,234`, `$1234.00`, `\frac{3}{4}` and `0.75`, `72 clips`, `6 - 5i`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .mathematics.answer_text import NUMBER, find_answer, marked_answer, plain_numbers
from .mathematics.notation import folded
from .mathematics.values import Value, equal_values, read_value

GRADING = 2
"""Version of these rules. It stands in the settings of a run that generates; runs without it had version 1."""
MAX_WORDS = 8
"""A reference of more words, or of several lines, is no short answer."""
MAX_DIGITS = 100
"""A longer number is compared as text: it is not a real answer, and slow to compare by value."""


def extract_answer(text: str) -> str:
    """The answer in a text, as `find_answer` finds it."""
    return find_answer(text).text


def answers_agree(answer: str, reference: str) -> bool:
    """Whether a generated text gives the reference answer.

    The reference is mathematics, also with a unit in words, or else text. If it is a number, what the answer marks is
    compared with it, else the answer's last number. Other mathematics is compared by value with what the answer marks,
    or all of it. Text is compared ignoring case, spacing and a final full stop.
    """
    wanted, given = _marked_or_all(reference), _marked_or_all(answer)
    if folded(given) == folded(wanted):
        return True
    value = read_value(wanted)
    found = _number_in(answer) if _is_number(value) else read_value(given)
    return found is not None and value is not None and equal_values(found, value)


def same_answer(first: str, second: str, reference: str) -> bool:
    """Whether two generated texts give the same answer, right or wrong, to a question with this reference.

    They are compared as `answers_agree` compares a text with the reference: as numbers if the reference is one, else by
    value or as text. If both have no number, they are compared as text too.
    """
    if _is_number(read_value(_marked_or_all(reference))):
        one, other = _number_in(first), _number_in(second)
        if one is not None and other is not None:
            return equal_values(one, other)
        if one is not None or other is not None:
            return False
    texts = _marked_or_all(first), _marked_or_all(second)
    if folded(texts[0]) == folded(texts[1]):
        return True
    values = [value for text in texts if (value := read_value(text)) is not None]
    return len(values) == 2 and equal_values(*values)


def is_gradable(reference: str) -> bool:
    """Whether an answer can be compared with it: mathematics that can be read, or a few plain words."""
    text = _marked_or_all(reference)
    plain = folded(text)
    is_words = bool(plain) and "\\" not in plain and "\n" not in text.strip() and len(text.split()) <= MAX_WORDS
    return is_words or read_value(text) is not None


def parse_number(text: str) -> Fraction | None:
    r"""The number in `1,234.5`, `$3`, `3/4`, `\frac{3}{4}`, `50%` (which is 50) or `15.0`; None for other text."""
    plain = plain_numbers(text).strip().rstrip(".")
    if len(plain) > MAX_DIGITS or not NUMBER.fullmatch(plain):
        return None
    top, _, bottom = re.sub(r"[,$%]", "", plain).partition("/")
    divisor = Fraction(bottom or 1)
    return Fraction(top) / divisor if divisor else None


def _is_number(value: Value | None) -> bool:
    """Whether it is a number without roots, constants and variables."""
    return (
        value is not None
        and value.kind == "number"
        and (isinstance(value.numbers[0], Fraction) and len(set(value.numbers)) == 1)
    )


def _number_in(answer: str) -> Value | None:
    """What the answer marks, if that is a number; else one number of it: the first after "answer is", or the last."""
    found = find_answer(answer)
    for part in dict.fromkeys((found.text, found.text.rpartition("=")[2])):
        if (value := read_value(part)) is not None and value.kind == "number":
            return value
    numbers = NUMBER.findall(plain_numbers(found.text))
    if not numbers and found.rule == "answer is":
        numbers = NUMBER.findall(plain_numbers(answer))[-1:]
    if not numbers:
        return None
    return read_value(numbers[0] if found.rule == "answer is" else numbers[-1])


def _marked_or_all(text: str) -> str:
    marked = marked_answer(text)
    return text.strip() if marked is None else marked.text
