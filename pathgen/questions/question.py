"""The question: a prompt with choices, or with a reference answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Needs = Literal["choices", "reference"]
"""What a task needs: choices with a gold one, or a reference answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: 2 to 26 choices with the index of the right one (gold), or a reference answer.

    The id is unique within the source. A Task makes the model's prompt from `prompt`.
    """

    id: str
    prompt: str
    choices: tuple[str, ...] | None = None
    gold: int | None = None
    reference: str | None = None

    @property
    def sha(self) -> str:
        """Digest of everything but the id, 16 hex digits."""
        content = json.dumps([self.prompt, self.choices, self.gold, self.reference], ensure_ascii=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
