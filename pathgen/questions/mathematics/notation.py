r"""The normaliser of mathematical text: one notation for TeX and plain text, without layout, currency and units.

The replacements are those of the field's normalisations (Hendrycks et al., MATH; Lewkowycz et al., Minerva, app. D.1).
"""

from __future__ import annotations

import re

SYMBOLS = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "*",
    "\N{DOT OPERATOR}": "*",
    "\N{MIDDLE DOT}": "*",
    "\N{DIVISION SIGN}": "/",
    "\N{SQUARE ROOT}": "\\sqrt",
    "\N{INFINITY}": "\\infty",
    "\N{GREEK SMALL LETTER PI}": "\\pi",
    "\N{PLUS-MINUS SIGN}": "\\pm",
    "\N{UNION}": "\\cup",
    "\N{ELEMENT OF}": "\\in",
    "\N{DEGREE SIGN}": "",
    "\N{SUPERSCRIPT TWO}": "^2",
    "\N{SUPERSCRIPT THREE}": "^3",
    "\N{NO-BREAK SPACE}": " ",
    "\N{POUND SIGN}": "",
    "\N{EURO SIGN}": "",
}
WORDS = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}(?:\^\{?[23]\}?)?"
)
LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?|quad|qquad|limits)(?![A-Za-z])|(?<!\\)\\(?:[,;:>]|(?=\s))|~"
)
REWRITTEN = (
    (re.compile(r"(?<=\d)(?:,\\!|\{,\})(?=\d{3})"), ","),  # 1,\!000 and 1{,}000
    (re.compile(r"\\!"), ""),
    (LAYOUT, " "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(le|ge|ne)q?(?![A-Za-z])"), r"\\\1q"),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\?[%$]|(?<!\\)\\[()\[\]]"), ""),
    (WORDS, r" \1 "),
    (re.compile(r"\*\*(?=\s*[\w({-])"), "^"),
)
UNIT_LETTERS = frozenset("mgshLJNWV")
"""Single letters that are a unit after a number and a space; any other letter is a variable."""
JOINED_UNIT = re.compile(r"(?<=\d)(?:cm|mm|km|kg|mg|ml|mL|kWh|mph|ft|lbs?|oz|hrs?|mins?|secs?)(?:\^[23])?$")
MIXED = re.compile(r"(?<![\d./^])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])|(?<![\d./^])(\d+)\s*(\\frac\{\d+\}\{\d+\})")
"""A whole number with a fraction: 3 1/2 and 3\frac{1}{2}."""


THOUSANDS = re.compile(r"(?<![\d,.(\[{])\d{1,3}(?:,\d{3})+(?![\d,)\]}])")


def normalised(text: str) -> str:
    """The text in one notation; no unit is dropped."""
    for symbol, plain in SYMBOLS.items():
        text = text.replace(symbol, plain)
    for pattern, replacement in REWRITTEN:
        text = pattern.sub(replacement, text)
    text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return " ".join(text.split()).rstrip(".,;: ")


def without_units(text: str) -> str:
    """A normalised text without the words after its number, as in `7 (pens)` or `12 cm^2`; mixed numbers as a sum."""
    words = text.split(" ")
    while len(words) > 1 and _is_unit(words[-1]) and any(map(str.isdigit, " ".join(words[:-1]))):
        del words[-1]
    text = JOINED_UNIT.sub("", " ".join(words))
    return MIXED.sub(lambda m: f"({m[1]}+{m[2]}/{m[3]})" if m[1] else f"({m[4]}+{m[5]})", text)


def folded(text: str) -> str:
    """Text to compare with other text: in one notation, without case, and without spaces around signs."""
    text = " ".join(normalised(text).casefold().split())
    return re.sub(r"\s*([^\w\s])\s*", r"\1", text).rstrip(".")


def _is_unit(word: str) -> bool:
    word = re.sub(r"\^\{?[23]\}?$", "", word).strip("().,;!")
    return word in UNIT_LETTERS or (len(word) > 1 and word != "pi" and word.replace("-", "").isalpha())
