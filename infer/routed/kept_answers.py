"""Answers kept in a .jsonl as they come: the same command resumes, and bridges and paths can be fitted to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pathgen.errors import InputError, PathgenError, one_line
from pathgen.identity import difference_told, differences
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.chat import Chat

from .routed_model import Completion

BEGIN = b'{"prompt": '
"""Of each line."""


class KeptAnswers:
    """The answers of one file, by prompt; it is made with its first answers.

    Each line has `prompt`, `prompt_tokens`, the fields of a Completion, `chat`, and the settings of the command.

    Args:
        file: may not exist yet.
        settings: what an answer depends on besides its prompt and `chat`; `model` among it is a fingerprint.

    Attributes:
        chat: how the prompts of the file were asked; None if it has no answers.

    Raises:
        InputError: the file cannot be read, holds something else, or its answers were made with other settings.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]):
        self.file, self.settings = file, dict(settings)
        self.answers: dict[str, Completion] = {}
        self.chat: Chat | None = None
        self._end = 0  # of the last whole line
        try:
            data = file.read_bytes() if file.exists() else b""
        except OSError as error:
            raise InputError(f"--out {one_line(str(file))}: {error.strerror or error}") from error
        lines = data.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            is_torn = not line.endswith(b"\n") and line.startswith(BEGIN[: len(line)]) and not _is_json(line)
            if is_torn:  # the last one
                break
            if line.strip():
                self._read(line, f"{file}, line {number}")
            self._end += len(line)
        self._ends_open = self._end > 0 and data[self._end - 1 : self._end] != b"\n"

    def open(self) -> None:
        """Check that the file can be added to. A last line that was cut off is taken off, or ended if it is whole.

        Raises:
            InputError: it cannot.
        """
        try:
            with self.file.open("ab") as out:
                out.truncate(self._end)
                out.write(b"\n" if self._ends_open else b"")
        except OSError as error:
            raise InputError(f"--out {one_line(str(self.file))}: {error.strerror or error}") from error

    def add(
        self, prompts: Sequence[str], prompt_tokens: Sequence[Sequence[int]], answers: Sequence[Completion], chat: Chat
    ) -> None:
        """Add answers.

        Raises:
            PathgenError: the file system refuses.
        """
        rows = [
            {"prompt": prompt, "prompt_tokens": list(ids)} | asdict(answer) | {"chat": chat} | self.settings
            for prompt, ids, answer in zip(prompts, prompt_tokens, answers, strict=True)
        ]
        try:
            with self.file.open("a") as out:
                out.writelines(json.dumps(row) + "\n" for row in rows)
        except OSError as error:
            raise PathgenError(f"--out {self.file}: {error.strerror or error}") from error
        self.answers.update(zip(prompts, answers, strict=True))

    def _read(self, line: bytes, where: str) -> None:
        try:
            row = json.loads(line)
            known = {name: row[name] for name in self.settings}
            text, depth, new_tokens = (row[name] for name in ("text", "depth", "new_tokens"))
            answer = Completion(text, LayerPath(row["path"]), depth, new_tokens, tuple(row["tokens"]))
            prompt, chat = row["prompt"], row["chat"]
            if not isinstance(prompt, str) or not isinstance(chat, (bool, str)):
                raise TypeError("prompt must be a text, and chat true, false or a day")
            changed = differences(known.pop("model"), self.settings["model"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} is no kept answer ({one_line(repr(error))}); give another --out") from error
        if changed:
            told = difference_told(row["model"], self.settings["model"], "those of its answer")
            raise InputError(f"{where} is of another model: {told}; give another --out")
        for name, its in known.items():
            if its != self.settings[name]:
                raise InputError(
                    f"{where}: its answer was made with {name} {its!r}, and this command has {self.settings[name]!r}; "
                    "give another --out"
                )
        self.answers[prompt], self.chat = answer, chat


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
