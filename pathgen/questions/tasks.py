"""Tasks: how a question is rendered into tokens, and how far gold is ahead of the other choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from .question import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Task:
    """How questions of one kind are asked and graded.

    Attributes:
        name: as on the command line.
        needs: what a question must have: `choices` are scored by log-likelihood, a `reference` is generated.
        letters: choices are listed in the prompt and answered by letter.
        max_new_tokens: longest generated answer, in tokens.
        stop: texts at which a generated answer ends.
    """

    name: str
    needs: Literal["choices", "reference"]
    letters: bool = False
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()

    @property
    def generates(self) -> bool:
        """Whether an answer is generated rather than chosen; its margin then is relative to full depth's."""
        return self.needs == "reference"

    def prompt(self, question: Question) -> str:
        """The text before the answer; in a chat, the user's turn."""
        lines = [f"Question: {question.prompt}"]
        if self.letters:
            lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices or (), strict=False)]
        return "\n".join([*lines, "Answer:"])

    def continuations(self, question: Question) -> list[str]:
        """The texts whose likelihood is measured: each choice, or the reference answer alone."""
        if self.generates:
            return [question.reference or ""]
        choices = question.choices or ()
        return list(LETTERS[: len(choices)]) if self.letters else list(choices)

    def longest(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> int:
        """Tokens of the longest text that a model meets: the prompt with a continuation, or with what it generates."""
        return len(prompt) + max([self.max_new_tokens if self.generates else 0, *map(len, continuations)])

    def encode(
        self, question: Question, tokenizer: PreTrainedTokenizerBase, chat: bool
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt and of each continuation.

        A continuation's tokens are what the whole text has beyond the prompt's tokens, as lm-evaluation-harness
        splits them. In a chat the prompt is the user's turn and the continuation opens the assistant's.

        Raises:
            InputError: `chat` with a tokenizer that has no chat template.
        """
        if not chat:
            prompt = self.prompt(question)
            ids = tokenizer(prompt)["input_ids"]
            wholes = [tokenizer(f"{prompt} {text}")["input_ids"] for text in self.continuations(question)]
            return ids, [whole[len(ids) :] for whole in wholes]
        prompt = chat_turn(tokenizer, self.prompt(question))

        def ids_of(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        ids = ids_of(prompt)
        return ids, [ids_of(prompt + text)[len(ids) :] for text in self.continuations(question)]

    def describe(self, chat: bool) -> dict[str, Any]:
        """All that shapes prompts and grades, for the run's settings."""
        probe = Question("", "{question}", choices=("{choice}", "{choice}"), gold=0, reference="{reference}")
        return {**asdict(self), "stop": list(self.stop), "template": self.prompt(probe), "chat": chat}


TASKS = {
    task.name: task
    for task in (
        Task("arc", "choices"),
        Task("arc-letter", "choices", letters=True),
        Task("math", "reference", max_new_tokens=32, stop=("\n",)),
    )
}


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: naming those that exist.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}: choose from {', '.join(TASKS)}")
    return TASKS[name]


def chat_turn(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The prompt as the user's turn of a chat, with the assistant's turn opened.

    Raises:
        InputError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise InputError("--chat needs a model whose tokenizer has a chat template; use --no-chat")
    turns = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def choice_margin(scores: Sequence[float], choices: Sequence[str], gold: int) -> float:
    """Gold's log-likelihood minus the best other's, in nats; a choice with gold's own text is no other."""
    return scores[gold] - max(
        (score for score, text in zip(scores, choices, strict=True) if text != choices[gold]),
        default=float("-inf"),
    )
