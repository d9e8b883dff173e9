"""A question: a prompt with choices, or with a reference answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Needs = Literal["choices", "reference"]
"""What a task asks of a question: choices with a gold one, or a reference answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: either choices with a gold index, or a reference answer.

    Attributes:
        id: unique within its source.
        prompt: the question's text, as the source has it (a Task renders it).
        choices: two to 26 texts, or None.
        gold: index of the right choice, or None.
        reference: the reference answer as text, or None.
    """

    id: str
    prompt: str
    choices: tuple[str, ...] | None = None
    gold: int | None = None
    reference: str | None = None

    @property
    def sha(self) -> str:
        """16 hex digits over everything but the id: an edited question changes it."""
        content = json.dumps([self.prompt, self.choices, self.gold, self.reference], ensure_ascii=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
