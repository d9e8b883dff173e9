"""The built-in questions: a data file written by `benchmarks/lab/builtin_questions`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from .question import Needs, Question

BUILTIN_FILE = Path(__file__).with_name("builtin.jsonl")


def builtin_questions(needs: Needs, split: Literal["train", "test"]) -> list[Question]:
    """The built-in questions of one split, with kinds evenly mixed, so that the first N are a fair sample.

    Args:
        needs: `choices` gives all kinds, with two to five choices; `reference` gives word problems with a number as
            the answer.
        split: `train` and `test` share no prompt.
    """
    rows = map(json.loads, BUILTIN_FILE.read_text(encoding="utf-8").splitlines())
    return [
        Question(
            row["id"],
            row["prompt"],
            tuple(row["choices"]) if "choices" in row else None,
            row.get("gold"),
            row.get("reference"),
        )
        for row in rows
        if row["split"] == split and needs in row
    ]
