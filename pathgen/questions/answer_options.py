"""The options of a command that generates answers: how long they may be, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from cluster.program.options import option

from ..errors import InputError
from .tasks import Task, find_task

ESCAPES = {"\\n": "\n", "\\t": "\t"}


def parse_stop_texts(given: Sequence[str]) -> tuple[str, ...]:
    """Read `--stop-text`: a backslash with n or t is a line break or a tab."""
    texts = []
    for text in given:
        for escape, character in ESCAPES.items():
            text = text.replace(escape, character)
        texts.append(text)
    return tuple(texts)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """Length and stop texts of generated answers; None and empty: those of the task."""

    max_new_tokens: Annotated[
        int | None, option("Longest generated answer, in tokens [default: the task's].", min=1)
    ] = None
    stop_text: Annotated[
        tuple[str, ...],
        option(
            "Ends a generated answer; may repeat, '' for none [default: the task's].",
            reads=list[str],
            parse=parse_stop_texts,
        ),
    ] = ()

    def task(self, name: str) -> Task:
        """The task of that name with these options.

        Raises:
            InputError: there is none, or it generates nothing and an option is given.
        """
        task = find_task(name)
        if self == AnswerOptions():
            return task
        if not task.generates:
            flag = "--stop-text" if self.max_new_tokens is None else "--max-new-tokens"
            raise InputError(f"{flag}: task {name} generates no answer; it goes with --task math")
        stop = tuple(filter(None, self.stop_text)) if self.stop_text else task.stop
        return replace(task, max_new_tokens=self.max_new_tokens or task.max_new_tokens, stop=stop)
