r"""Values of mathematical answers: numbers, expressions, tuples, intervals, sets and equations.

Two expressions are equal if they have the same value at a few fixed values of their variables, computed in fractions
where that is possible. So the same text gets the same grade on every machine, without another package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .expressions import Number, evaluate
from .notation import normalised, without_units

MAX_LENGTH = 300
"""A longer text is no short answer, and is compared as text."""
POINTS = 3
TOLERANCE = 1e-12
"""Relative; references are often rounded floats, for example 0.6666666666666666."""
INEXACT = 1e-10
"""Relative, for values with roots or constants, which are computed in double precision."""
NAME = re.compile(r"\s*[A-Za-z](?:\s*\([A-Za-z]\)|_\{?\w\}?)?\s*")
"""Left of an equation that only names its value: x, f(x), a_1."""
PROSE = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z]))[A-Za-z]{3,}")


@dataclass(frozen=True, slots=True)
class Value:
    """A mathematical value.

    Attributes:
        kind: `number` (an expression), `equation`, `set` (also a list without brackets), `union`, or `()`, `[)` … by
            its brackets.
        numbers: the expression, or the difference of an equation's sides, at each of POINTS choices of its variables.
        parts: the elements of a set, tuple or interval.
    """

    kind: str
    numbers: tuple[Number, ...] = ()
    parts: tuple[Value, ...] = ()


def read_value(text: str) -> Value | None:
    """The value of an answer, with or without a unit; None if it is no mathematics, or too large."""
    if len(text) > 4 * MAX_LENGTH:
        return None
    plain = without_units(normalised(text))
    # Letters alone are a word or a name: `no` is not `on`.
    if not plain or len(plain) > MAX_LENGTH or (plain.isalpha() and len(plain) > 1) or PROSE.search(plain):
        return None
    try:
        return _whole(plain)
    except (ArithmeticError, ValueError, RecursionError):
        return None


def equal_values(first: Value, second: Value) -> bool:
    """Whether two values are the same.

    Sets are compared in any order, a tuple with a list or a set in its own order; intervals by their brackets too.
    """
    if first.kind == second.kind == "equation":
        return _proportional(first.numbers, second.numbers)
    if first.kind == second.kind == "number":
        return all(map(_close, first.numbers, second.numbers))
    kinds = {first.kind, second.kind}
    if len(first.parts) != len(second.parts) or not (len(kinds) == 1 or kinds == {"set", "()"}):
        return False
    if kinds <= {"set", "union"}:
        left = list(second.parts)
        for part in first.parts:
            found = next((other for other in left if equal_values(part, other)), None)
            if found is None:
                return False
            left.remove(found)
        return True
    return all(map(equal_values, first.parts, second.parts))


def _whole(text: str) -> Value:
    if (found := re.match(r"[A-Za-z]\s*\\in(?![A-Za-z])", text)) is not None:
        text = text[found.end() :]
    if "\\cup" in text:
        return Value("union", parts=tuple(_whole(part.strip()) for part in re.split(r"\\cup(?![A-Za-z])", text)))
    if "\\pm" in text:
        return Value("set", parts=tuple(_whole(re.sub(r"\\pm(?![A-Za-z])", sign, text)) for sign in "+-"))
    if (matrix := re.fullmatch(r"\\begin\{[bpv]?matrix\}(.*)\\end\{[bpv]?matrix\}", text)) is not None:
        rows = [row.split("&") for row in matrix[1].split("\\\\")]
        return Value("matrix", parts=tuple(Value("row", parts=tuple(map(_whole, row))) for row in rows))
    left, equals, right = text.partition("=")
    if equals and "=" not in right:
        for name, rest in ((left, right), (right, left)):
            if NAME.fullmatch(name):
                return _whole(rest.strip())
        sides = [_expression(side).numbers for side in (left, right)]
        return Value("equation", tuple(a - b for a, b in zip(*sides, strict=True)))
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        return Value("set", parts=tuple(map(_whole, _items(text[2:-2]))))
    if text[:1] in "([" and text[-1:] in ")]" and _closes_at_end(text) and len(items := _items(text[1:-1])) > 1:
        return Value(text[0] + text[-1], parts=tuple(map(_whole, items)))
    if len(items := _items(text)) > 1:
        return Value("set", parts=tuple(map(_whole, items)))
    return _expression(text)


def _items(text: str) -> list[str]:
    """The parts between commas that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _closes_at_end(text: str) -> bool:
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _expression(text: str) -> Value:
    return Value("number", tuple(evaluate(text, point) for point in range(POINTS)))


def _close(first: Number, second: Number) -> bool:
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        whole = first.denominator == second.denominator == 1
        return first == second or (
            not whole and abs(first - second) <= Fraction(TOLERANCE) * max(abs(first), abs(second))
        )
    one, other = complex(first), complex(second)
    return abs(one - other) <= INEXACT * max(abs(one), abs(other)) + TOLERANCE


def _proportional(first: Sequence[Number], second: Sequence[Number]) -> bool:
    if not all(map(complex, (*first, *second))):
        return all(map(_close, first, second))
    ratios = [complex(one) / complex(other) for one, other in zip(first, second, strict=True)]
    return all(_close(ratio, ratios[0]) for ratio in ratios)
