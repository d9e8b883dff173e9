r"""Grades generated answers: finds the answer in a text, and compares it with the reference.

Numbers are compared by value in any notation: `1,234`, `$1234.00`, `\frac{3}{4}`, `0.75`, `72 clips`.
"""

from __future__ import annotations

import re
from fractions import Fraction

NUMBER = re.compile(
    r"(?:(?<!\d)[-+])?\$?"  # in `5-3` the minus is not a sign
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=(?<!\d)\.\d))"
    r"(?:\.\d+)?(?:[eE][-+]?\d{1,2}(?!\d))?"
    r"(?:/\d+(?:\.\d+)?)?%?"
)
MAX_DIGITS = 100
"""A longer number is compared as text: it is not a real answer, and slow to compare by value."""
RELATIVE_TOLERANCE = Fraction(1, 10**12)
"""Numbers this close are equal, because references are often rounded floats, for example 0.6666666666666666."""


def extract_answer(text: str) -> str:
    r"""The text after the last `####`, else in the last `\boxed{…}`, else the last number, else the whole text."""
    if (marked := _marked(text)) is not None:
        return marked
    numbers = NUMBER.findall(_plain(text))
    return numbers[-1] if numbers else text.strip()


def answers_agree(answer: str, reference: str) -> bool:
    """Whether a generated text gives the reference answer.

    A reference that is a number, also with a unit in words, is compared with the last number of the answer, as
    `extract_answer` finds it. Other references are compared as text, ignoring case, spacing and a final full stop.
    """
    wanted = _marked_or_all(reference)
    number = _bare_number(wanted)
    if number is None:
        return _folded(_marked_or_all(answer)) == _folded(wanted)
    given = _last_number(answer)
    return given is not None and _equal(given, number)


def same_answer(first: str, second: str, reference: str) -> bool:
    """Whether two generated texts give the same answer, right or wrong, to a question with this reference.

    They are compared as `answers_agree` compares a text with the reference: by their last numbers if the reference is a
    number, else as text. If both have no number, they are compared as text too.
    """
    if _bare_number(_marked_or_all(reference)) is not None:
        one, other = _last_number(first), _last_number(second)
        if one is not None and other is not None:
            return _equal(one, other)
        if one is not None or other is not None:
            return False
    return _folded(_marked_or_all(first)) == _folded(_marked_or_all(second))


def parse_number(text: str) -> Fraction | None:
    r"""The number in `1,234.5`, `$3`, `3/4`, `\frac{3}{4}`, `50%` (which is 50) or `15.0`; None for other text."""
    plain = _plain(text).strip().rstrip(".")
    if len(plain) > MAX_DIGITS or not NUMBER.fullmatch(plain):
        return None
    top, _, bottom = re.sub(r"[,$%]", "", plain).partition("/")
    divisor = Fraction(bottom or 1)
    return Fraction(top) / divisor if divisor else None


def _last_number(answer: str) -> Fraction | None:
    """The last number of the answer, as `extract_answer` finds it."""
    numbers = NUMBER.findall(_plain(extract_answer(answer)))
    return parse_number(numbers[-1]) if numbers else None


def _equal(first: Fraction, second: Fraction) -> bool:
    return abs(first - second) <= RELATIVE_TOLERANCE * max(abs(first), abs(second))


def _marked_or_all(text: str) -> str:
    marked = _marked(text)
    return text if marked is None else marked


def _bare_number(text: str) -> Fraction | None:
    """The number at the start of the text, if nothing or only a unit in words follows."""
    first, *unit = _plain(text).split() or [""]
    return parse_number(first) if all(word.strip(".,").isalpha() for word in unit) else None


def _marked(text: str) -> str | None:
    r"""The rest of the line after the last `####`, or what the last `\boxed{…}` in it or in the text holds."""
    if "####" not in text:
        return _last_boxed(text)
    lines = text.rsplit("####", 1)[1].strip().splitlines()
    text = lines[0].strip() if lines else ""
    return text if (boxed := _last_boxed(text)) is None else boxed


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    inside = text[start + len("\\boxed{") :]
    depth = 1
    for index, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return inside[:index].strip()
    return None


def _plain(text: str) -> str:
    r"""Numbers without TeX: `\frac{3}{4}` is 3/4, `1{,}234` is 1,234, `\$5` is $5; a Unicode minus sign is `-`."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("{,}", ",").replace("\\$", "$").replace("\\%", "%")
    text = re.sub(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2", text)
    return re.sub(r"\\(?:text|mathrm)\{([^{}]*)\}", r" \1", text)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
