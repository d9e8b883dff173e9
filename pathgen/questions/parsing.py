"""Parses JSON, and the fields of a question from a source's values. Each ValueError is one line for the user."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeGuard

from ..errors import InputError
from .mathematics.answer_text import marked_answer

PROBLEMS_SHOWN = 5
MAX_CHOICES = len(ascii_uppercase)
TEXT_AND_LABEL = (("text", "label"), ("value", "key"), ("content", "label"))
"""Names of a choice's text and label where choices are a list of objects."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(data: bytes) -> Any:
    """The value of UTF-8 JSON, with or without a byte order mark."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {data[error.start]:#04x} at offset {error.start}") from error
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno} column {error.colno}"
        raise ValueError(f"not JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    except ValueError as error:  # Python's limit on the digits of a number
        raise ValueError("not usable JSON: a number in it has thousands of digits") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; InputError if it is not JSON, OSError if it cannot be read."""
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def parse_text(value: Any, what: str) -> str:
    """The value unchanged, if it is usable text: not blank, without NUL, and valid UTF-8."""
    if value is None:
        raise ValueError(f"{what} is missing")
    if not isinstance(value, str):
        raise ValueError(f"{what} is {type(value).__name__}, not text")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    if "\0" in value:
        raise ValueError(f"{what} has a NUL character")
    if _SURROGATE.search(value):
        raise ValueError(f"{what} has half of a surrogate pair, which is not a character")
    return value


def parse_id(value: Any, what: str = "id") -> str:
    """Text unchanged, a whole number as text."""
    return str(value) if is_whole(value) else parse_text(value, what)


def parse_choices(value: Any) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Texts, not all equal, and their labels if any.

    Args:
        value: a plain list; `{"text": […], "label": […]}`; `[{"text": …, "label": …}, …]`; `{"A": …, "B": …}`, where
            null is no choice; or `{TEXT: 1, TEXT: 0, …}`, which marks the right one.
    """
    if value is None:
        raise ValueError("choices are missing")
    texts, labels = _texts_and_labels(value)
    if not isinstance(texts, list) or not isinstance(labels, list | None):
        raise ValueError("choices are neither a list of texts nor an object of texts by label")
    if not 2 <= len(texts) <= MAX_CHOICES:
        raise ValueError(f"has {len(texts)} choices; 2 to {MAX_CHOICES} are needed")
    choices = tuple(parse_text(text, f"choice {number}") for number, text in enumerate(texts, start=1))
    if len(set(choices)) == 1:
        raise ValueError("its choices are all the same")
    if labels is None:
        return choices, None
    names = tuple(str(label).strip() for label in labels)
    if len(names) != len(choices) or len(set(names)) < len(names):
        raise ValueError(f"the labels ({', '.join(names)}) do not name {len(choices)} choices one by one")
    return choices, names


def _texts_and_labels(value: Any) -> tuple[Any, Any]:
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        for text, label in TEXT_AND_LABEL:
            if all(text in entry for entry in value):
                labels = [entry.get(label) for entry in value]
                return [entry[text] for entry in value], None if None in labels else labels
        return None, None
    if not isinstance(value, dict):
        return value, None
    if {"text", "label"} & value.keys():
        return value.get("text"), value.get("label")
    if value and all(mark in (0, 1) and is_whole(mark) for mark in value.values()):
        return list(value), None
    given = {label: text for label, text in value.items() if text is not None}
    are_texts = all(isinstance(text, str) for text in given.values())
    return (list(given.values()), list(given)) if are_texts else (None, None)


def parse_reference(value: Any) -> str:
    """The answer as text: what a worked solution marks as its answer (`marked_answer`), or all of it."""
    what = "reference answer"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what} is {value}")
        return str(int(value)) if value.is_integer() else str(value)
    if is_whole(value):
        return str(value)
    text = parse_text(value, what)
    marked = marked_answer(text)
    return parse_text(text.strip() if marked is None else marked.text, what)


def refuse_unusable(what: str, problems: Sequence[str], total: int, source: str | None = None) -> None:
    """Raise InputError with the first problems, one line each, if any of the `total` questions or prompts has one."""
    if problems:
        hidden = len(problems) - PROBLEMS_SHOWN
        shown = "; ".join([*problems[:PROBLEMS_SHOWN], *([f"and {hidden} more"] if hidden > 0 else [])])
        where = f"{source}: " if source else ""
        raise InputError(f"{where}{len(problems)} of {total} {what} cannot be used: {shown}")


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether the value is an integer, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
