"""The schemas that are read as they are: usual names of a question's columns, and shapes of choices in several columns.

One table serves all sources; no dataset has code of its own. `docs/questions.md` has a row of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from ..question import Needs
from .gold import NUMBERED

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "prompt": (
        *("question.stem", "question", "question_stem", "prompt", "problem", "query", "goal", "sentence"),
        *("ctx", "startphrase", "input"),
    ),
    "choices": ("question.choices", "choices", "options", "endings", "mc1_targets.choices", "mc1_targets"),
    "gold": (
        *("mc1_targets.labels", "answerKey", "answer", "gold", "label", "correct", "correct_answer", "correct answer"),
        *("answer_idx", "answer_index", "cop", "mc1_targets"),
    ),
    "reference": ("reference", "answer", "solution", "response", "target", "output", "final_answer"),
    "context": ("context", "article", "passage", "support", "body", "premise", "paragraph"),
}
"""The fields of a Question, each with its usual column names; the first one present is used. A dot leads into a nested
column. Upper and lower case are alike but for the id."""
ANSWERS = "answers"
"""Beside the fields, `--columns` takes how gold is given: one of READINGS."""
NONE = "-"
"""As a column: none, even where a usual one is present."""
FIELDS: dict[Needs, tuple[str, ...]] = {
    "choices": ("prompt", "choices", "gold"),
    "reference": ("prompt", "reference"),
}
"""The fields that a source must have; id and context are optional."""
LOOKS_USEFUL = re.compile(
    r"context|passage|article|support|story|paragraph|fact|background|option|choice|ending|distractor", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Choices in several columns: their names with `{}` for a counter, the counters, and what numbers count from."""

    names: str
    counters: str
    numbers: str = ""
    right: str = ""
    """A column with the right choice, which the others do not have."""


SPREAD = (
    Spread("distractor{}", "12345", right="correct_answer"),
    Spread("incorrect answer {}", "12345", right="correct answer"),
    Spread("sol{}", "12", NUMBERED[0]),
    Spread("option{}", "123456789", NUMBERED[1]),
    Spread("ending{}", "0123456789", NUMBERED[0]),
    Spread("choice{}", "123456789", NUMBERED[0]),
    Spread("answer{}", "0123456789", NUMBERED[0]),
    Spread("answer{}", ascii_uppercase, NUMBERED[1]),
    Spread("op{}", ascii_lowercase, NUMBERED[0]),
    Spread("option_{}", ascii_lowercase),
    Spread("option{}", ascii_lowercase),
    Spread("{}", ascii_uppercase),
)
"""The usual ones; the first with two columns is used."""
QUESTION_WORDS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
"""Where the questions of a source with a context are these words alone (COPA), they are asked so."""
