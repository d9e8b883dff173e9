"""Loads and checks the questions of a source, before a model loads."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..errors import InputError
from .builtin import builtin_questions
from .grading import is_gradable
from .parsing import PROBLEMS_SHOWN, refuse_unusable
from .question import Needs, Question
from .rows.columns import ColumnMap, find_columns, shown_row
from .rows.drafts import Draft, are_question_words, draft
from .rows.gold import NUMBERED, READINGS, GoldReading
from .rows.schemas import NONE
from .sources import SourceRow, read_rows
from .written import COLUMNS as WRITTEN_COLUMNS
from .written import NO_QUESTIONS

logger = logging.getLogger(__name__)


def load_questions(
    source: str,
    *,
    needs: Needs,
    columns: Mapping[str, str] = {},
    limit: int | None = None,
    labelled: bool = True,
    tell: Callable[[str], object] = logger.info,
) -> list[Question]:
    """Load and check the questions of a source, in its order.

    Args:
        source: `builtin[-math][:train|:test]`, a local `.jsonl`, `.json` or `.parquet` file, or a hub dataset
            `owner/name[:config][:split]`.
        needs: what the task needs.
        columns: field of Question to the source's column, for columns that `COLUMNS` does not name; as `--columns`,
            which docs/questions.md explains.
        limit: number of rows to use; later rows are not checked, and read only if these do not show how gold is given.
        labelled: whether questions with choices need a gold one; if not, it is None where the source names none.
        tell: called with one line that says how gold is given.

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
    stream = read_rows(source)
    rows = list(islice(stream, limit))
    if not rows:
        raise InputError(f"{source}: no questions in it")
    readable = [row for row in rows if not row.fault]
    if not readable:
        refuse_unusable("questions", [f"{row.where}: {row.fault}" for row in rows], len(rows), source)
    if not columns and readable[0].values.keys() >= WRITTEN_COLUMNS:
        raise InputError(f"{source} {NO_QUESTIONS}")
    found = find_columns(source, readable, columns, needs, labelled)
    if found.unused:
        logger.warning(
            "%s: column %s looks like context or choices and is not used; --columns context=%s puts it before the "
            "question",
            *(source, " and ".join(found.unused), found.unused[0]),
        )
    return _Loading(source, found, needs, labelled, tell).questions(rows, stream)


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


@dataclass(frozen=True, slots=True)
class _Loading:
    """The rows of one source, made into questions."""

    source: str
    columns: ColumnMap
    needs: Needs
    labelled: bool
    tell: Callable[[str], object]

    def questions(self, rows: Sequence[SourceRow], more: Iterator[SourceRow]) -> list[Question]:
        """The questions of the rows; `more` rows may tell how gold is given."""
        worded = are_question_words((row for row in rows if not row.fault), self.columns)
        drafts = {row.where: self._draft(row, worded) for row in rows}
        gold = self._gold([entry for entry in drafts.values() if isinstance(entry, Draft)], more, worded)
        made: list[Question] = []
        problems: list[str] = []
        first_seen: dict[str, str] = {}
        repeats = 0
        for row in rows:
            entry = drafts[row.where]
            try:
                if not isinstance(entry, Draft):
                    raise entry
                question = entry.finished(gold[entry.answers_by_number], ordered=not self.columns.gold_is_first)
                if "id" not in self.columns.paths:
                    question = replace(question, id=question.sha)
                if earlier := first_seen.get(question.id):
                    if self.columns.without_id:
                        repeats += 1
                        continue
                    raise ValueError(self._repeated(earlier))
            except ValueError as error:
                problems.append(self._problem(row, error, with_row=not problems))
                continue
            first_seen[question.id] = row.where
            made.append(question)
        refuse_unusable("questions", problems, len(rows), self.source)
        if repeats:
            logger.warning("%s: %d rows repeat an earlier one and are left out", self.source, repeats)
        if ways := dict.fromkeys(str(way) for way in gold.values() if way.name):
            self.tell(f"{self.source}: answers are {' and '.join(ways)}")
        self._warn_of(made, first_seen)
        return made

    def _draft(self, row: SourceRow, worded: bool) -> Draft | ValueError:
        if row.fault:
            return ValueError(row.fault)
        try:
            return draft(row, self.columns, self.needs, labelled=self.labelled, worded=worded)
        except ValueError as error:
            return error

    def _gold(self, drafts: Sequence[Draft], more: Iterator[SourceRow], worded: bool) -> dict[bool, GoldReading]:
        """How gold is given in numbers (True) and in text; mostly alike.

        Where the drafts leave it open, as many `more` rows are read as decide it. Where no way fits all rows, numbers
        and texts may be given in two ways: then numbers count from 0.
        """
        seen = [entry.readings for entry in drafts if entry.readings]
        how = {"given": self.columns.answers, "numbers": self.columns.numbers}
        gold = GoldReading(seen, **how)
        open_names = {gold.name, gold.rival}
        while gold.rival and len(open_names) > 1 and (row := next(more, None)) is not None:
            entry = self._draft(row, worded)
            if isinstance(entry, Draft) and entry.readings:
                seen.append(entry.readings)
                open_names &= entry.readings.keys()
        gold = GoldReading(seen, **how)
        if gold.rival:
            logger.warning(
                "%s: answers are read as %s; no row shows that they are not %s, which --columns answers=%s reads",
                *(self.source, gold, READINGS[gold.rival], gold.rival),
            )
        if gold.fits_all or self.columns.answers:
            return {True: gold, False: gold}
        parts: dict[bool, list[Mapping[str, int]]] = {True: [], False: []}
        for entry in drafts:
            if entry.readings:
                known = {name: place for name, place in entry.readings.items() if name != NUMBERED[1]}
                parts[entry.answers_by_number].append(known if entry.answers_by_number else entry.readings)
        return {kind: GoldReading(rows) for kind, rows in parts.items()}

    def _repeated(self, earlier: str) -> str:
        remedy = f"--columns id={NONE}"
        if "id" in self.columns.paths:
            return f"has the id of {earlier}; {remedy} makes ids of the contents"
        return f"repeats {earlier}; {remedy} leaves repeats out"

    def _problem(self, row: SourceRow, error: ValueError, *, with_row: bool) -> str:
        question_id = None if row.fault else self.columns.values(row.values).get("id")
        shown_id = f" (id {reprlib.repr(question_id)})" if question_id is not None else ""
        seen = f"; {shown_row(row)}" if with_row and not row.fault else ""
        return f"{row.where}{shown_id}: {error}{seen}"

    def _warn_of(self, made: Sequence[Question], where: Mapping[str, str]) -> None:
        equal = [where[each.id] for each in made if each.choices and len(set(each.choices)) < len(each.choices)]
        if equal:
            logger.warning(
                "%s: %d of %d questions have equal choices (first: %s); only the first of equal choices is used",
                *(self.source, len(equal), len(made), equal[0]),
            )
        odd = [each for each in made if each.reference is not None and not is_gradable(each.reference)]
        if odd:
            first = "; ".join(f"{where[each.id]}: {reprlib.repr(each.reference)}" for each in odd[:PROBLEMS_SHOWN])
            logger.warning(
                "%s: %d of %d reference answers cannot be read as mathematics or a few words, so no answer may ever "
                "match them: %s; --columns reference=COLUMN names another column",
                *(self.source, len(odd), len(made), first),
            )
