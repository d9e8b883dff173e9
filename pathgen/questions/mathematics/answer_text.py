r"""Where the answer is in a text: rules with names, each tried on the whole text, the first that finds one decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Rule = Literal["####", "boxed", "answer is", "last number", "whole text"]

NUMBER = re.compile(
    r"(?:(?<!\d)[-+])?\$?"  # in `5-3` the minus is not a sign
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=(?<!\d)\.\d))"
    r"(?:\.\d+)?(?:[eE][-+]?\d{1,2}(?!\d))?"
    r"(?:/\d+(?:\.\d+)?)?%?"
)
PHRASE = re.compile(r"answer\s*(?:is|:)\s*:?\s*", re.IGNORECASE)
"""Begins the answer, to the end of its sentence: `The answer is 7.`, `Answer: 7`, `Final answer: …`."""
SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")
BOX = re.compile(r"\\f?boxed\s*(?:(\{)|(\w+))")


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """The part of a text that is its answer, and the rule that found it."""

    rule: Rule
    text: str


def marked_answer(text: str) -> FoundAnswer | None:
    r"""The answer that the text marks itself, None if it marks none.

    The rules, in this order: `####`: the rest of the line after the last `####`, or the box in it. `boxed`: the last
    `\boxed{…}`. `answer is`: what follows the last "answer is" or "answer:" in its sentence.
    """
    if "####" in text:
        rest = text.rsplit("####", 1)[1].strip()
        line = rest.splitlines()[0].strip() if rest else ""
        return FoundAnswer("####", _boxed(line) or line)
    if (boxed := _boxed(text)) is not None:
        return FoundAnswer("boxed", boxed)
    phrases = list(PHRASE.finditer(text))
    for phrase in reversed(phrases):
        rest = text[phrase.end() :]
        end = SENTENCE_END.search(rest)
        if found := (rest[: end.start()] if end else rest).strip().strip("*").strip():
            return FoundAnswer("answer is", found)
    return None


def find_answer(text: str) -> FoundAnswer:
    """The answer that the text marks, else its `last number`, else the `whole text`."""
    if (marked := marked_answer(text)) is not None:
        return marked
    numbers = NUMBER.findall(plain_numbers(text))
    return FoundAnswer("last number", numbers[-1]) if numbers else FoundAnswer("whole text", text.strip())


def plain_numbers(text: str) -> str:
    r"""Numbers without TeX: `\frac{3}{4}` is 3/4, `1{,}234` is 1,234, `\$5` is $5; a Unicode minus sign is `-`."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("\\$", "$").replace("\\%", "%")
    text = re.sub(r"\{,\}|,\\!", ",", text)
    text = re.sub(r"\\[dtc]?frac\s*(?:\{([^{}]+)\}\s*\{([^{}]+)\}|(\d)\s*(\d))", _slashed, text)
    text = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r" \1", text)
    return re.sub(r"(?<=[A-Za-z])\s*\^\{?[23]\}?", "", text)  # of a unit


def _slashed(fraction: re.Match[str]) -> str:
    return f"{fraction[1] or fraction[3]}/{fraction[2] or fraction[4]}"


def _boxed(text: str) -> str | None:
    r"""What the last `\boxed` holds; None without one that ends."""
    boxes = list(BOX.finditer(text))
    if not boxes:
        return None
    if boxes[-1][2]:
        return boxes[-1][2]
    inside = text[boxes[-1].end() :]
    depth = 1
    for index, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return inside[:index].strip()
    return None
