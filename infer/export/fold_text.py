"""The text that a fold is fitted on, and other text on which it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pathgen.errors import InputError
from pathgen.questions.builtin import builtin_questions
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import TASKS, Task
from pathgen.questions.written import Written, is_written, read_written

Row = tuple[int, ...]
"""Token ids."""
LONGEST = 256
"""Tokens of a row; longer texts are split."""
MOST_FITTED = 50_000
"""Tokens to fit on; of more text, a fair sample is taken."""
HELD_OUT = 10
"""Every tenth row of a source of the user's is measured on, the others are fitted on."""
MEASURED_ROWS = 40
"""Most rows to measure on, of each source."""


@dataclass(frozen=True, slots=True)
class FoldText:
    """Rows of token ids.

    Attributes:
        fitted: to fit on.
        measured: to measure on, none of them in `fitted`.
        sources: where they come from.
    """

    fitted: tuple[Row, ...]
    measured: tuple[Row, ...]
    sources: tuple[str, ...]


def read_sources(sources: Sequence[str]) -> dict[str, list[str] | Written]:
    """The texts of sources that the user names: `.txt` files, files of `infer generate --out`, and question sources as
    in `load_questions`.

    Raises:
        InputError: a source cannot be read, or is empty.
    """
    found: dict[str, list[str] | Written] = {}
    for source in sources:
        if source.endswith(".txt"):
            found[source] = _text_file(source)
        else:
            found[source] = read_written(source) if is_written(source) else _questions(source)
    return found


def fold_text(given: Mapping[str, Sequence[str] | Written], tokenizer: Any, longest: int = LONGEST) -> FoldText:
    """The built-in questions, the train split to fit on and the test split to measure on, and the given texts.

    Args:
        given: texts, or written answers, by source.
        tokenizer: of the model.
        longest: most tokens of a row.

    Raises:
        InputError: the tokenizer gives no tokens.
    """
    fitted = _rows(_builtin("train"), tokenizer, longest)
    measured = _spread(_rows(_builtin("test"), tokenizer, longest))
    for texts in given.values():
        rows = _rows(texts, tokenizer, longest)
        measured += _spread(rows[::HELD_OUT])
        fitted += [row for number, row in enumerate(rows) if number % HELD_OUT]
    fitted = sorted(set(fitted) - set(measured))
    order = np.random.default_rng(0).permutation(len(fitted))
    fitted = [fitted[place] for place in order]
    ends = accumulate(map(len, fitted))
    kept = [row for row, end in zip(fitted, ends, strict=True) if end <= MOST_FITTED]
    if not kept or not measured:
        raise InputError("its tokenizer gives no tokens for the text to fit on")
    return FoldText(tuple(kept), tuple(measured), ("builtin", *given))


def _builtin(split: Literal["train", "test"]) -> list[str]:
    """Every question that has choices with and without a list of them, and those with a reference."""
    choices, references = builtin_questions("choices", split), builtin_questions("reference", split)
    lists = [_answered(TASKS["arc-letter"], question) for question in choices]
    plain = [_answered(TASKS["arc"], question) for question in choices]
    return [text for row in zip(lists, plain, strict=True) for text in row] + [
        _answered(TASKS["math"], question) for question in references
    ]


def _questions(source: str) -> list[str]:
    try:
        questions = load_questions(source, needs="choices", labelled=False)
        return [_answered(TASKS["arc-letter"], question) for question in questions]
    except InputError as error:
        try:
            return [_answered(TASKS["math"], question) for question in load_questions(source, needs="reference")]
        except InputError:
            raise InputError(f"--text: {error}") from error


def _answered(task: Task, question: Question) -> str:
    """The question as its task asks it, and the right answer in full where it is known."""
    if question.choices is None:
        return f"{task.prompt(question)} {question.reference}"
    if question.gold is None:
        return task.prompt(question)
    return f"{task.prompt(question)} {question.choices[question.gold]}"


def _text_file(name: str) -> list[str]:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--text {name} cannot be read ({error}); give a text in UTF-8") from error
    if not text.strip():
        raise InputError(f"--text {name} is empty")
    return [text]


def _spread(rows: Sequence[Row]) -> list[Row]:
    """At most MEASURED_ROWS rows, evenly from the first to the last."""
    step = max(1, len(rows) // MEASURED_ROWS)
    return list(rows[::step][:MEASURED_ROWS])


def _rows(texts: Sequence[str] | Written, tokenizer: Any, longest: int) -> list[Row]:
    """The texts in token ids, split into rows; rows of one token are left out."""
    if isinstance(texts, Written):
        encoded = [texts.task.encode(question, tokenizer, texts.chat) for question in texts.questions]
        found = [(*prompt, *answer) for prompt, (answer,) in encoded]
    else:
        found = [tuple(tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    rows = [ids[start : start + longest] for ids in found for start in range(0, len(ids), longest)]
    return [row for row in rows if len(row) > 1]
