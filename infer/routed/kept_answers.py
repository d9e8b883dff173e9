"""Answers kept in a .jsonl as they come: the same command goes on, and bridges and paths can be fitted to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pathgen.errors import InputError, one_line
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.chat import Chat

from .routed_model import Completion


class KeptAnswers:
    """The answers of one file, by prompt. A last line that was cut off is taken off the file.

    Each line has `prompt`, the fields of a Completion, `end` (the text of the token that ended the answer, empty if it
    reached its longest), and the settings of the command: `chat`, `max_new_tokens` and what runs.

    Args:
        file: made if absent.
        settings: what an answer depends on besides its prompt and `chat`; `max_new_tokens` among it.

    Raises:
        InputError: the file cannot be read or written, or its answers were made with other settings.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]):
        self.file, self.settings = file, dict(settings)
        self.answers: dict[str, Completion] = {}
        self.chat: Chat | None = None
        try:
            lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
            for number, line in enumerate(lines, start=1):
                self._read(line, f"{file}, line {number}")
            with file.open("ab") as out:
                out.truncate(sum(len(line) + 1 for line in lines))
        except OSError as error:
            raise InputError(f"--out {one_line(str(file))}: {error.strerror or error}") from error

    def add(self, prompts: Sequence[str], answers: Sequence[Completion], chat: Chat, end: str) -> None:
        """Add answers; `end` is the text of the token at which the model ends an answer."""
        lines = []
        for prompt, answer in zip(prompts, answers, strict=True):
            ended = answer.new_tokens < self.settings["max_new_tokens"]
            row = {"prompt": prompt} | asdict(answer) | {"end": end if ended else "", "chat": chat} | self.settings
            lines.append(json.dumps(row) + "\n")
            self.answers[prompt] = answer
        with self.file.open("a") as out:
            out.writelines(lines)

    def _read(self, line: bytes, where: str) -> None:
        try:
            row = json.loads(line)
            known = {name: row[name] for name in self.settings}
            answer = Completion(row["text"], LayerPath(row["path"]), row["depth"], row["new_tokens"])
            prompt, chat = row["prompt"], row["chat"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where} is no kept answer ({one_line(repr(error))}); give another --out") from error
        for name, ours in self.settings.items():
            if known[name] != ours:
                raise InputError(
                    f"{where}: its answer was made with {name} {known[name]!r}, and this command has {ours!r}; "
                    "give another --out"
                )
        self.answers[prompt], self.chat = answer, chat
