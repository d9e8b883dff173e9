"""Loads and checks the questions of a source, before a model loads."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ..errors import InputError
from .builtin import builtin_questions
from .parsing import parse_choices, parse_gold, parse_id, parse_reference, parse_text, refuse_unusable
from .question import Needs, Question
from .sources import SourceRow, read_rows

logger = logging.getLogger(__name__)

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "prompt": ("question", "question_stem", "prompt"),
    "choices": ("choices", "options"),
    "gold": ("answerKey", "answer", "gold"),
    "reference": ("reference", "answer", "solution"),
}
"""The fields of a Question, each with its usual column names; the first one present is used."""

FIELDS: dict[Needs, tuple[str, ...]] = {
    "choices": ("prompt", "choices", "gold"),
    "reference": ("prompt", "reference"),
}
"""The fields that a source must have; the id is optional."""


def load_questions(
    source: str,
    *,
    needs: Needs,
    columns: Mapping[str, str] = {},
    limit: int | None = None,
    labelled: bool = True,
) -> list[Question]:
    """Load and check the questions of a source, in its order.

    Args:
        source: `builtin[-math][:train|:test]`, a local `.jsonl`, `.json` or `.parquet` file, or a hub dataset
            `owner/name[:config][:split]`.
        needs: what the task needs.
        columns: field of Question to the source's column, for columns that `COLUMNS` does not name.
        limit: number of rows to use; later rows are neither read nor checked.
        labelled: whether questions with choices need a gold one; if not, it is None where the source names none.

    Returns:
        At least one question, ids unique. Without an id column the id is a digest of the question's content, so it
        does not depend on the order of the file.

    Raises:
        InputError: the source cannot be read, a column is missing, or rows cannot be used; all rows are checked
            first, and the message names the first five bad ones.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1 question; got {limit}")
    if source.partition(":")[0] in ("builtin", "builtin-math"):
        return _load_builtin(source, needs, columns)[:limit]
    rows = list(islice(read_rows(source), limit))
    if not rows:
        raise InputError(f"{source}: no questions in it")
    readable = [row for row in rows if not row.fault]
    names = _resolve_columns(source, readable, columns, needs, labelled) if readable else {}
    return _parse_rows(source, rows, names, needs, labelled)


def parse_columns(text: str) -> dict[str, str]:
    """Field to column from `id=qid,prompt=stem`; InputError if a part has no `=` or a field is given twice."""
    columns: dict[str, str] = {}
    for part in text.split(","):
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not (equals and field and column):
            raise InputError(f"columns: {part.strip()!r} is not FIELD=COLUMN, for example prompt=stem")
        if field in columns:
            raise InputError(f"columns: {field} is given twice")
        columns[field] = column
    return columns


def _load_builtin(source: str, needs: Needs, columns: Mapping[str, str]) -> list[Question]:
    if columns:
        raise InputError(f"{source}: has no columns to map")
    name, _, split = source.partition(":")
    if split not in ("", "train", "test"):
        raise InputError(f"{source}: no such split; there are {name}:train and {name}:test")
    kind: Needs = "choices" if name == "builtin" else "reference"
    if kind != needs:
        other = "builtin" if needs == "choices" else "builtin-math"
        raise InputError(f"{source}: has {kind} only and the task needs {needs}; {other} has them")
    return builtin_questions(kind, "test" if split == "test" else "train")


def _resolve_columns(
    source: str, rows: Sequence[SourceRow], columns: Mapping[str, str], needs: Needs, labelled: bool
) -> dict[str, str]:
    """The column of every field of `needs`, and of the id if there is one; without `labelled`, gold may be missing."""
    present = list(dict.fromkeys(name for row in rows for name in row.values))
    listed = ", ".join(present) or "none"
    for field, column in columns.items():
        if field not in COLUMNS:
            raise InputError(f"columns: no field {field!r}; the fields are {', '.join(COLUMNS)}")
        if column not in present:
            raise InputError(f"{source}: no column {column!r} for {field}; the columns are {listed}")
    names: dict[str, str] = {}
    for field in ("id", *FIELDS[needs]):
        candidates = (columns[field],) if field in columns else COLUMNS[field]
        if found := next((name for name in candidates if name in present), None):
            names[field] = found
        elif field != "id" and (labelled or field != "gold"):
            raise InputError(
                f"{source}: no column for {field} ({' or '.join(candidates)}); the columns are {listed}; "
                f"name one with --columns {field}=COLUMN"
            )
    return names


def _parse_rows(
    source: str, rows: Sequence[SourceRow], names: Mapping[str, str], needs: Needs, labelled: bool
) -> list[Question]:
    questions: list[Question] = []
    problems: list[str] = []
    first_seen: dict[str, str] = {}
    equal: list[str] = []
    for row in rows:
        values = {field: row.values.get(column) for field, column in names.items()}
        try:
            if row.fault:
                raise ValueError(row.fault)
            question = _parse_row(values, needs, labelled)
            if earlier := first_seen.get(question.id):
                raise ValueError(f"has the id of {earlier}" if "id" in names else f"repeats {earlier}")
        except ValueError as error:
            shown_id = f" (id {reprlib.repr(values['id'])})" if values.get("id") is not None else ""
            problems.append(f"{row.where}{shown_id}: {error}")
            continue
        first_seen[question.id] = row.where
        questions.append(question)
        if question.choices and len(set(question.choices)) < len(question.choices):
            equal.append(row.where)
    refuse_unusable("questions", problems, len(rows), source)
    if equal:
        logger.warning(
            "%s: %d of %d questions have equal choices (first: %s); only the first of equal choices is used",
            *(source, len(equal), len(rows), equal[0]),
        )
    return questions


def _parse_row(values: Mapping[str, Any], needs: Needs, labelled: bool) -> Question:
    question_id = parse_id(values["id"]) if "id" in values else ""
    prompt = parse_text(values["prompt"], "question")
    if needs == "choices":
        choices, labels = parse_choices(values["choices"])
        gold = None
        if labelled or values.get("gold") is not None:
            # Equal texts get the same score, so gold is the first of them.
            gold = choices.index(choices[parse_gold(values["gold"], choices, labels)])
        question = Question(question_id, prompt, choices, gold)
    else:
        question = Question(question_id, prompt, reference=parse_reference(values["reference"]))
    return question if "id" in values else replace(question, id=question.sha)
