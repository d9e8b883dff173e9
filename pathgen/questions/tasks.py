"""Tasks: make the prompt and tokens of a question, and compute the margin of gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from string import ascii_uppercase as LETTERS
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .chat import Chat, chat_turn
from .grading import GRADING
from .question import Needs, Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Task:
    """How questions of one kind are asked and graded.

    Attributes:
        needs: `choices` are scored by log-likelihood, a `reference` is compared with a generated answer.
        letters: choices are listed in the prompt and answered by letter.
        max_new_tokens: maximum length of a generated answer.
        stop: texts at which a generated answer ends.
    """

    name: str
    needs: Needs
    letters: bool = False
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()

    @property
    def generates(self) -> bool:
        """Whether an answer is generated, not chosen; its margin is then relative to that of full depth."""
        return self.needs == "reference"

    def prompt(self, question: Question) -> str:
        """The text before the answer; in a chat, the user's turn."""
        lines = [f"Question: {question.prompt}"]
        if self.letters:
            lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices or (), strict=False)]
        return "\n".join([*lines, "Answer:"])

    def continuations(self, question: Question) -> list[str]:
        """The texts to score: each choice, or the reference answer alone."""
        if self.generates:
            return [question.reference or ""]
        choices = question.choices or ()
        return list(LETTERS[: len(choices)]) if self.letters else list(choices)

    def longest(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> int:
        """Tokens of the longest input: the prompt with a continuation or a generated answer."""
        return len(prompt) + max([self.max_new_tokens if self.generates else 0, *map(len, continuations)])

    def encode(
        self, question: Question, tokenizer: PreTrainedTokenizerBase, chat: Chat
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt and of each continuation.

        A continuation's tokens are the tokens of the whole text after the number of tokens of the prompt, as in
        lm-evaluation-harness. In a chat the prompt is the user's turn, and the continuation starts the assistant's.
        Errors as `chat_turn`.
        """
        prompt = chat_turn(tokenizer, self.prompt(question), chat) if chat else self.prompt(question)
        space = "" if chat else " "

        def ids_of(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=not chat)["input_ids"]

        ids = ids_of(prompt)
        return ids, [ids_of(f"{prompt}{space}{text}")[len(ids) :] for text in self.continuations(question)]

    def describe(self, chat: Chat) -> dict[str, Any]:
        """All that determines prompts and grades, for the run's settings."""
        probe = Question("", "{question}", choices=("{choice}", "{choice}"), gold=0, reference="{reference}")
        graded = {"grading": GRADING} if self.generates else {}
        return {**asdict(self), "stop": list(self.stop), "template": self.prompt(probe), "chat": chat, **graded}


TASKS = {
    task.name: task
    for task in (
        Task("arc", "choices"),
        Task("arc-letter", "choices", letters=True),
        Task("math", "reference", max_new_tokens=32, stop=("\n",)),
    )
}


def find_task(name: str) -> Task:
    """The task of that name; InputError if there is none."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: choose from {', '.join(TASKS)}")
    return TASKS[name]


def described_task(described: Mapping[str, Any]) -> Task:
    """The task of `Task.describe` in a run's settings, with the length and the stop texts of that run.

    Raises:
        InputError: there is no such task here.
        KeyError: the settings lack one of its fields.
    """
    task = find_task(described["name"])
    return replace(task, max_new_tokens=described["max_new_tokens"], stop=tuple(described["stop"]))


def choice_margin(scores: Sequence[float], choices: Sequence[str], gold: int) -> float:
    """Gold's log-likelihood minus that of the best choice with another text, in nats."""
    return scores[gold] - max(
        (score for score, text in zip(scores, choices, strict=True) if text != choices[gold]),
        default=float("-inf"),
    )
