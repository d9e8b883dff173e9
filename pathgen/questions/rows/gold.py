"""How the rows of a source name the right choice: decided over all rows, because one row may fit several ways."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from ..parsing import is_whole, parse_text

NUMBERED = ("index0", "index1")
READINGS = {
    "label": "labels",
    "text": "texts of choices",
    "index0": "indices from 0",
    "letter": "letters",
    "index1": "indices from 1",
    "mark": "marks, 1 at the right choice",
}
"""The ways to name the right choice, in words. Where no row tells two of them apart, the first one counts."""
LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


def gold_readings(
    value: Any, choices: Sequence[str], labels: Sequence[str] | None, *, implied: bool = False
) -> dict[str, int]:
    """The index of the right choice by each way to read the answer of one row; at least one.

    Args:
        value: the answer, as the source has it.
        choices: their texts.
        labels: their labels, if they have any. A label need not be an index: `3` may label the first choice.
        implied: the labels are letters that only the shape of the source gives, so that numbers may count choices.

    Raises:
        ValueError: the answer is no usable value, or names no choice.
    """
    if isinstance(value, list | dict):
        marks = list(value.values()) if isinstance(value, dict) else value
        if len(marks) != len(choices) or marks.count(1) != 1 or not all(mark in (0, 1) for mark in marks):
            raise ValueError(f"its marks {reprlib.repr(marks)} are not one 1 and else 0 for {len(choices)} choices")
        return {"mark": marks.index(1)}
    if isinstance(value, bool) and tuple(choices) in (("no", "yes"), ("false", "true")):
        return {"text": int(value)}
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    answer = str(value) if is_whole(value) else parse_text(value, "answer").strip()
    found: dict[str, int] = {}
    if labels is not None and (place := _place(answer, labels)) is not None:
        found["label"] = place
    if isinstance(value, str) and (place := _place(answer, [choice.strip() for choice in choices])) is not None:
        found["text"] = place
    if labels is None or implied:
        for first, name in enumerate(NUMBERED):
            if answer.isdecimal() and first <= int(answer) < len(choices) + first:
                found[name] = int(answer) - first
    letters = list(ascii_uppercase[: len(choices)])
    if labels is None and (letter := LETTER.fullmatch(answer)) and letter[1].upper() in letters:
        found["letter"] = letters.index(letter[1].upper())
    elif "label" in found and [label.upper() for label in labels or ()] == letters:
        found["letter"] = found["label"]
    if not found:
        raise not_among(value, labels or choices)
    return found


def not_among(value: Any, names: Sequence[str]) -> ValueError:
    """The answer names none of the choices."""
    return ValueError(f"answer {reprlib.repr(str(value))} is not among the choices ({reprlib.repr(tuple(names))})")


class GoldReading:
    """The way that the answers of a source are read.

    Args:
        rows: `gold_readings` of each row.
        given: the way that the user names, if any.
        numbers: what numbers count from where no row shows it: one of NUMBERED, or empty for 0.

    Attributes:
        name: of READINGS: the first that fits all rows, else the one that fits most; empty without rows.
        fits_all: whether it fits all rows.
        rival: another way that fits all rows too and gives other golds; empty if there is none.
    """

    def __init__(self, rows: Sequence[Mapping[str, int]], *, given: str = "", numbers: str = ""):
        order = sorted(READINGS, key=lambda name: name == NUMBERED[0]) if numbers == NUMBERED[1] else list(READINGS)
        fits = Counter(name for row in rows for name in row)
        self.name, self.rival = given or max(order, key=fits.__getitem__) if rows else "", ""
        self.fits_all = fits[self.name] == len(rows)
        for other in order if rows and not given and fits[self.name] == len(rows) else ():
            if fits[other] == len(rows) and any(row[other] != row[self.name] for row in rows):
                self.rival = self.rival or other
        lettered = self.name == "label" and fits["letter"] == len(rows)
        self._words = READINGS["letter" if lettered else self.name] if rows else ""

    def __str__(self) -> str:
        return self._words

    def index(self, readings: Mapping[str, int], value: Any, names: Sequence[str]) -> int:
        """The index of a row's gold.

        Raises:
            ValueError: the row does not fit; the other rows contradict it.
        """
        if self.name in readings:
            return readings[self.name]
        other = READINGS[next(iter(readings))]
        raise ValueError(f"{not_among(value, names)}: it would be one of {other}, and the other answers are {self}")


def _place(answer: str, names: Sequence[str]) -> int | None:
    """Where the answer stands, in the same case or, if only one name fits, in another; None if it does not."""
    if answer in names:
        return list(names).index(answer)
    folded = [name.casefold() for name in names]
    return folded.index(answer.casefold()) if folded.count(answer.casefold()) == 1 else None
