r"""Computes one mathematical expression, in plain text or TeX, at fixed values of its variables.

It calls no eval, as sympy's parser of plain text does. Its work is bounded by the length of the text and the size of
numbers, so it needs no timer: that of math-verify is a signal, which works in a process's main thread alone.
"""

from __future__ import annotations

import cmath
import hashlib
import math
import re
from collections.abc import Callable
from fractions import Fraction

MAX_DEPTH = 40
MAX_BITS = 20_000
"""Larger numbers are compared as text."""
GREEK = frozenset(
    (
        *("alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda"),
        *("mu", "omega", "phi", "rho", "sigma", "infty"),
    )
)
FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "ln": cmath.log,
    "log": cmath.log10,
    "exp": cmath.exp,
}
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d{1,2}(?![\d.]))?|\.\d+|\d+\.(?!\d))"
    r"|\\(?P<command>[A-Za-z]+)|(?P<word>sqrt|sin|cos|tan|log|ln|exp|pi|[A-Za-z])|(?P<sign>[-+*/^_(){}\[\]|]))"
)

Number = Fraction | complex | float


class NotMathError(ValueError):
    """The text is no expression that is known here."""


def evaluate(text: str, point: int) -> Number:
    """The value of an expression, in fractions where that is possible.

    Args:
        text: normalised.
        point: chooses the values of its variables, fractions between 1 and 2.

    Raises:
        NotMathError: it is no expression, or its numbers are too large.
        ArithmeticError, ValueError: it has no value, as 1/0.
    """
    return _Expression(text, point).value()


class _Expression:
    """One pass over an expression, which computes it; `point` chooses the values of its variables."""

    def __init__(self, text: str, point: int):
        self._point, self._depth = point, 0
        self._tokens: list[tuple[str, str]] = []
        end = 0
        text = text.strip()
        while end < len(text):
            match = TOKEN.match(text, end)
            if match is None:
                raise NotMathError(text)
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            end = match.end()
        self._tokens.reverse()

    def value(self) -> Number:
        found = self._sum()
        if self._tokens:
            raise NotMathError(self._tokens[-1][1])
        return found

    @property
    def _next(self) -> str:
        """The sign that comes next; empty if it is no sign."""
        kind, text = self._tokens[-1] if self._tokens else ("", "")
        return text if kind == "sign" else ""

    def _take(self, sign: str) -> bool:
        if self._next != sign:
            return False
        self._tokens.pop()
        return True

    def _sum(self) -> Number:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotMathError("nested too deeply")
        total = self._product()
        while self._next in ("+", "-"):
            sign = self._tokens.pop()[1]
            term = self._product()
            total = _bounded(total + term if sign == "+" else total - term)
        self._depth -= 1
        return total

    def _product(self) -> Number:
        product = self._signed()
        while self._tokens:
            if self._take("/"):
                product = _bounded(product / self._signed())
            elif self._take("*"):
                product = _bounded(product * self._signed())
            elif self._next in ("", "(", "{", "[") and self._tokens[-1][0] != "number":
                product = _bounded(product * self._power())
            else:
                break
        return product

    def _signed(self) -> Number:
        sign = 1
        while self._next in ("+", "-"):
            sign *= -1 if self._tokens.pop()[1] == "-" else 1
        return sign * self._power()

    def _power(self) -> Number:
        base = self._base()
        return _raised(base, self._exponent()) if self._take("^") else base

    def _exponent(self) -> Number:
        sign = -1 if self._take("-") else 1
        return sign * self._power()

    def _base(self) -> Number:
        if not self._tokens:
            raise NotMathError("it ends early")
        kind, text = self._tokens.pop()
        if kind == "number":
            return Fraction(text.rstrip("."))
        if kind == "sign":
            if text not in "({[|":
                raise NotMathError(text)
            inside = self._sum()
            if not self._take({"(": ")", "{": "}", "[": "]", "|": "|"}[text]):
                raise NotMathError(text)
            if text == "|":
                return abs(inside) if isinstance(inside, Fraction) else abs(complex(inside))
            return inside
        if text == "frac":
            return _bounded(self._base() / self._base())
        if text == "sqrt":
            index: Number = Fraction(2)
            if self._take("["):
                index = self._sum()
                if not self._take("]"):
                    raise NotMathError(text)
            return _root(self._base(), index)
        if text == "log" and self._take("_"):
            base = cmath.log(complex(self._base()))
            return cmath.log(complex(self._base())) / base
        if text in FUNCTIONS:
            return FUNCTIONS[text](complex(self._base()))
        if text == "pi":
            return complex(math.pi)
        if kind == "word" and text in ("i", "e"):
            return 1j if text == "i" else complex(math.e)
        if kind == "command" and text not in GREEK:
            raise NotMathError(text)
        return self._variable(text)

    def _variable(self, name: str) -> Number:
        if self._take("_"):
            kind, text = self._tokens.pop() if self._tokens else ("", "")
            if text == "{" and len(self._tokens) > 1:
                kind, text = self._tokens.pop()
                if not self._take("}"):
                    raise NotMathError(name)
            if kind not in ("number", "word"):
                raise NotMathError(name)
            name += f"_{text}"
        digest = hashlib.blake2b(f"{name}\x1f{self._point}".encode(), digest_size=2).digest()
        return 1 + Fraction(int.from_bytes(digest, "big") + 1, 65_537)


def _bounded(number: Number) -> Number:
    if isinstance(number, Fraction):
        if number.numerator.bit_length() + number.denominator.bit_length() > MAX_BITS:
            raise NotMathError("too large")
    elif not cmath.isfinite(number):
        raise NotMathError("not finite")
    return number


def _raised(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > MAX_BITS:
            raise NotMathError("too large")
        return Fraction(base**exponent.numerator)
    return _bounded(complex(base) ** complex(exponent))


def _root(number: Number, index: Number) -> Number:
    if not isinstance(index, Fraction) or index.denominator != 1 or not 2 <= index <= 100:
        raise NotMathError("no such root")
    power = index.numerator
    if isinstance(number, Fraction) and max(abs(number.numerator), number.denominator) < 1 << 50:
        size = abs(number)
        root = Fraction(round(size.numerator ** (1 / power)), max(1, round(size.denominator ** (1 / power))))
        if root**power == size and (number >= 0 or power % 2):
            return root if number >= 0 else -root
        if number < 0 and power % 2:
            return complex(-(float(size) ** (1 / power)))
    return _bounded(complex(number) ** (1 / power))
