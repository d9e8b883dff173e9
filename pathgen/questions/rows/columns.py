"""Which columns of a source are a question's fields, by the table of `schemas` or by the user's word."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from string import ascii_uppercase
from typing import Any

from ...errors import InputError
from ..mathematics.values import read_value
from ..parsing import parse_choices, parse_reference, parse_text
from ..question import Needs
from ..sources import SourceRow
from .gold import READINGS
from .schemas import ANSWERS, COLUMNS, FIELDS, LOOKS_USEFUL, NONE, SPREAD

SHOWN = 300
"""Characters of a row in a message."""
TRIED = 5
"""Rows that a hint is tried on."""


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Where a question's fields are.

    Attributes:
        paths: by field, without choices in several columns.
        spread: columns of the choices, if they are in several.
        labels: of the spread columns, if letters count them.
        fixed: texts of the choices, if they are the same in every row.
        numbers: what numbers count from by the columns' usual meaning, if no answer shows it; may be empty.
        answers: how gold is given, if the user says so.
        without_id: the user wants none.
        unused: columns that look like context or choices, and are not used.
    """

    paths: Mapping[str, str]
    spread: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()
    numbers: str = ""
    answers: str = ""
    without_id: bool = False
    unused: tuple[str, ...] = ()

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row's value of each field; that of spread or fixed choices is a list of texts."""
        found = {name: value_at(row, path) for name, path in self.paths.items()}
        if self.spread:
            texts = [value_at(row, path) for path in self.spread]
            while texts and texts[-1] in (None, ""):
                texts.pop()
            found["choices"] = texts
        elif self.fixed:
            found["choices"] = list(self.fixed)
        return found

    @property
    def gold_is_first(self) -> bool:
        """Whether the columns put gold at the same place in every row."""
        gold = self.paths.get("gold", "")
        return gold in self.spread or gold.startswith("mc1_targets")


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or inside nested columns along a dotted path; None if there is none."""
    if path in row:
        return row[path]
    head, _, rest = path.partition(".")
    inside = row.get(head)
    return value_at(inside, rest) if rest and isinstance(inside, dict) else None


def shown_row(row: SourceRow) -> str:
    """The row for a message, on one line and cut."""
    text = json.dumps(row.values, ensure_ascii=False, default=str).encode(errors="replace").decode()
    return f"{row.where} is {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"


def find_columns(
    source: str, rows: Sequence[SourceRow], given: Mapping[str, str], needs: Needs, labelled: bool
) -> ColumnMap:
    """The column of every field of `needs`, and of id and context if there are any.

    Args:
        source: for messages.
        rows: readable ones.
        given: of the user, by field; choices may be `COLUMN+COLUMN…` or the texts `no|yes`.
        needs: what the task needs.
        labelled: whether gold must be given.

    Raises:
        InputError: an unknown field, no such column, or none for a field; shows a row, and what would work.
    """
    present = list(dict.fromkeys(path for row in rows for path in _paths(row.values)))
    top = list(dict.fromkeys(name for row in rows for name in row.values))
    _check_given(source, rows, given, top)
    by_case = {name.casefold(): name for name in reversed(present)}
    paths: dict[str, str] = {}
    spread: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()
    numbers = ""
    for name in ("id", "context", *FIELDS[needs]):
        column = given.get(name, "")
        if column == NONE:
            continue
        if name == "choices" and column and "|" in column and column not in present:
            fixed = tuple(text.strip() for text in column.split("|"))
        elif name == "choices" and column and "+" in column and column not in present:
            spread = tuple(part.strip() for part in column.split("+"))
        elif column:
            paths[name] = column
        elif found := _usual(name, rows, present, by_case):
            paths[name] = found
    if needs == "choices" and not (paths.get("choices") or spread or fixed):
        spread, labels, numbers = _spread(by_case, top)
        fixed = () if spread else _truth_values(rows, paths.get("gold"))
    for name in FIELDS[needs]:
        if name in paths or (name == "choices" and (spread or fixed)) or (name == "gold" and not labelled):
            continue
        raise _missing(source, rows, name, present, top, {*paths.values(), *spread})
    used = {path.partition(".")[0] for path in (*paths.values(), *spread)}
    unused = tuple(
        name
        for name in top
        if name not in used and LOOKS_USEFUL.search(name) and any(row.values.get(name) for row in rows)
    )
    answers = given.get(ANSWERS, "")
    return ColumnMap(paths, spread, labels, fixed, numbers, answers, given.get("id") == NONE, unused)


def _check_given(source: str, rows: Sequence[SourceRow], given: Mapping[str, str], top: Sequence[str]) -> None:
    for name, column in given.items():
        if name == ANSWERS:
            if column not in READINGS:
                raise InputError(f"columns: answers are one of {', '.join(READINGS)}; got {column!r}")
            continue
        if name not in COLUMNS:
            raise InputError(f"columns: no field {name!r}; the fields are {', '.join((*COLUMNS, ANSWERS))}")
        if column == NONE or (name == "choices" and "|" in column):
            continue
        for part in column.split("+") if name == "choices" and column not in top else [column]:
            if not any(value_at(row.values, part.strip()) is not None or part.strip() in row.values for row in rows):
                raise InputError(
                    f"{source}: no column {part.strip()!r} for {name}; the columns are {_listed(rows, top)}; "
                    f"{shown_row(rows[0])}"
                )


def _usual(name: str, rows: Sequence[SourceRow], present: Sequence[str], by_case: Mapping[str, str]) -> str:
    for column in COLUMNS[name]:
        path = column if column in present or name == "id" else by_case.get(column.casefold(), "")
        if path in present and (name != "prompt" or not _is_nested(rows, path)):
            return path
    return ""


def _is_nested(rows: Sequence[SourceRow], path: str) -> bool:
    return any(isinstance(value_at(row.values, path), dict) for row in rows)


def _spread(by_case: Mapping[str, str], top: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...] | None, str]:
    """Columns of the choices, their labels if letters count them, and what numbers count from."""
    for each in SPREAD:
        # A single letter is a choice in capitals alone.
        names = {name: name for name in top} if each.names == "{}" else by_case
        fold = str if each.names == "{}" else str.casefold
        wanted = [names.get(fold(each.names.format(counter)), "") for counter in each.counters]
        found = tuple(takewhile(bool, wanted))
        if each.right:
            found = (by_case[each.right], *found) if each.right in by_case and found else ()
        if len(found) > 1:
            letters = each.counters.isalpha()
            return found, tuple(ascii_uppercase[: len(found)]) if letters else None, each.numbers
    return (), None, ""


def _truth_values(rows: Sequence[SourceRow], gold: str | None) -> tuple[str, ...]:
    """The two choices of a yes/no or true/false task without a column of choices; empty if it is none."""
    if gold is None:
        return ()
    values = {value_at(row.values, gold) for row in rows if isinstance(value_at(row.values, gold), bool | str)}
    words = {value.strip().casefold() for value in values if isinstance(value, str)}
    if values and words <= {"yes", "no"}:  # true and false without quotes are yes and no too
        return "no", "yes"
    return ("false", "true") if words and words <= {"true", "false"} else ()


def _paths(values: Mapping[str, Any], depth: int = 2) -> Iterator[str]:
    """The names of all columns, and of those inside nested ones."""
    for name, value in values.items():
        yield name
        if isinstance(value, dict) and depth > 1:
            yield from (f"{name}.{inside}" for inside in _paths(value, depth - 1))


def _listed(rows: Sequence[SourceRow], top: Sequence[str]) -> str:
    nested = {name: list(row.values[name]) for row in rows[:1] for name in row.values if _is_nested(rows[:1], name)}
    inside = "".join(f"; inside {name}: {', '.join(map(str, names))}" for name, names in nested.items())
    return f"{', '.join(top) or 'none'}{inside}"


def _missing(
    source: str, rows: Sequence[SourceRow], name: str, present: Sequence[str], top: Sequence[str], used: set[str]
) -> InputError:
    """No column for a field: what there is, and an option that works where one is found."""
    unused = [path for path in present if path not in used]
    fits = next((path for path in unused if _reads(name, rows, path)), "")
    return InputError(
        f"{source}: no column for {name} ({' or '.join(COLUMNS[name])}); the columns are {_listed(rows, top)}; "
        f"name one with --columns {name}={fits or 'COLUMN'}; {shown_row(rows[0])}"
    )


def _reads(name: str, rows: Sequence[SourceRow], path: str) -> bool:
    """Whether the first rows have a usable value of the field there."""
    try:
        for row in rows[:TRIED]:
            value = value_at(row.values, path)
            if name == "choices":
                parse_choices(value)
            elif name == "reference":
                found = read_value(parse_reference(value))
                if found is None or found.kind != "number" or len(set(found.numbers)) > 1:
                    return False
            elif name == "prompt":
                if " " not in parse_text(value, name):
                    return False
            else:
                return False
    except ValueError:
        return False
    return True
