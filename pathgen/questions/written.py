"""Text that a model wrote: prompts and answers of `infer generate --out`, to fit bridges on and to choose paths by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .chat import Chat, chat_turn
from .parsing import parse_text, refuse_unusable
from .question import Question
from .sources import read_rows
from .tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = frozenset(("prompt", "text", "end", "chat", "new_tokens"))
"""A .jsonl with all of these holds written answers."""


@dataclass(frozen=True, slots=True)
class WrittenTask(Task):
    """A prompt as it stands, and the answer as it was written: every token of it is scored."""

    def prompt(self, question: Question) -> str:
        """The prompt itself."""
        return question.prompt

    def encode(
        self, question: Question, tokenizer: PreTrainedTokenizerBase, chat: Chat
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt and of the answer, each on its own, as they were when the answer was written."""
        asked = chat_turn(tokenizer, question.prompt, chat) if chat else question.prompt
        prompt: Any = tokenizer(asked, add_special_tokens=not chat)["input_ids"]
        answer: Any = tokenizer(question.reference, add_special_tokens=False)["input_ids"]
        return prompt, [answer]


WRITTEN = WrittenTask("written", "reference")


@dataclass(frozen=True, slots=True)
class Written:
    """Written answers of one file, as questions whose reference is the whole answer, and how they were asked."""

    questions: list[Question]
    chat: Chat


def is_written(source: str) -> bool:
    """Whether the source is a file of `infer generate --out`."""
    if Path(source).suffix != ".jsonl" or not os.path.isfile(source):
        return False
    first = next(iter(read_rows(source)), None)
    return first is not None and first.values.keys() >= COLUMNS


def read_written(source: str) -> Written:
    """The written answers of a file; blank ones and repeats are left out.

    Raises:
        InputError: a row is damaged, rows were asked in different ways, or no answer is left.
    """
    found: dict[str, Question] = {}
    problems: list[str] = []
    ways: dict[Chat, str] = {}
    rows = list(read_rows(source))
    for row in rows:
        try:
            if row.fault or not row.values.keys() >= COLUMNS:
                raise ValueError(row.fault or f"lacks {', '.join(sorted(COLUMNS - row.values.keys()))}")
            prompt, end, chat = parse_text(row.values["prompt"], "prompt"), row.values["end"], row.values["chat"]
            if not (isinstance(row.values["text"], str) and isinstance(end, str) and isinstance(chat, (bool, str))):
                raise ValueError("text and end must be texts, and chat true, false or a day")
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
            continue
        ways.setdefault(chat, row.where)
        if row.values["text"].strip():
            question = Question("", prompt, reference=row.values["text"] + end)
            found[question.sha] = Question(question.sha, prompt, reference=question.reference)
    refuse_unusable("answers", problems, len(rows), source)
    if len(ways) > 1:
        told = " and ".join(f"{where} with chat {chat}" for chat, where in ways.items())
        raise InputError(f"{source}: answers were asked in different ways: {told}; give each way a file of its own")
    if not found:
        raise InputError(f"{source}: all {len(rows)} answers are blank")
    return Written(list(found.values()), next(iter(ways)))
