"""Text that a model wrote: prompts and answers of `infer generate --out`, to fit bridges on and to choose paths by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .chat import Chat, chat_turn
from .parsing import is_whole, parse_text, refuse_unusable
from .question import Question
from .sources import SourceRow, read_rows
from .tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = frozenset(("prompt", "text", "prompt_tokens", "tokens", "chat"))
"""A .jsonl with all of these holds written answers."""
NO_QUESTIONS = "holds answers of `infer generate --out`: text for `pathgen bridge` and `pathgen static`, no questions"

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WrittenTask(Task):
    """A prompt as it stands, and the answer as it was written: every token of it is scored.

    Attributes:
        tokens: token ids of each prompt and answer, by the question's sha.
    """

    tokens: Mapping[str, tuple[Ids, Ids]] = field(default_factory=dict, compare=False, repr=False)

    def prompt(self, question: Question) -> str:
        """The prompt itself."""
        return question.prompt

    def encode(
        self, question: Question, tokenizer: PreTrainedTokenizerBase, chat: Chat
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of prompt and answer as they were written; if another tokenizer wrote them, those of the texts.

        Errors as `chat_turn`.
        """
        prompt, answer = self.tokens[question.sha]
        if tokenizer.decode(list(answer), skip_special_tokens=True) == question.reference:
            return list(prompt), [list(answer)]
        asked = chat_turn(tokenizer, question.prompt, chat) if chat else question.prompt
        ids: Any = tokenizer(asked, add_special_tokens=not chat)["input_ids"]
        text: Any = tokenizer(question.reference, add_special_tokens=False)["input_ids"]
        return ids, [text]


@dataclass(frozen=True, slots=True)
class Written:
    """The written answers of one file, as questions whose reference is the whole answer, and how they were asked."""

    task: WrittenTask
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
    questions: dict[str, Question] = {}
    tokens: dict[str, tuple[Ids, Ids]] = {}
    problems: list[str] = []
    ways: dict[Chat, str] = {}
    rows = list(read_rows(source))
    for row in rows:
        try:
            question, ids = _read(row)
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
            continue
        ways.setdefault(row.values["chat"], row.where)
        if question.reference:
            questions[question.sha], tokens[question.sha] = replace(question, id=question.sha), ids
    refuse_unusable("answers", problems, len(rows), source)
    if len(ways) > 1:
        told = " and ".join(f"{where} with chat {chat}" for chat, where in ways.items())
        raise InputError(f"{source}: answers were asked in different ways: {told}; give each way a file of its own")
    if not questions:
        raise InputError(f"{source}: all {len(rows)} answers are blank")
    return Written(WrittenTask("written", "reference", tokens=tokens), list(questions.values()), next(iter(ways)))


def _read(row: SourceRow) -> tuple[Question, tuple[Ids, Ids]]:
    """One answer, without a reference if it is blank; ValueError says what is wrong with the row."""
    if row.fault:
        raise ValueError(row.fault)
    if missing := COLUMNS - row.values.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    prompt, text = parse_text(row.values["prompt"], "prompt"), row.values["text"]
    if not isinstance(text, str) or not isinstance(row.values["chat"], (bool, str)):
        raise ValueError("text must be a text, and chat true, false or a day")
    ids = row.values["prompt_tokens"], row.values["tokens"]
    if not all(isinstance(part, list) and all(is_whole(token) and token >= 0 for token in part) for part in ids):
        raise ValueError("prompt_tokens and tokens must be lists of token ids")
    return Question("", prompt, reference=text if text.strip() else None), (tuple(ids[0]), tuple(ids[1]))
