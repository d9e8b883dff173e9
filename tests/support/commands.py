"""The `pathgen` program, called in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from pathgen.cli import app


@dataclass(frozen=True)
class Answer:
    """What a call gave."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that is all of stdout."""
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The one line that is all of stderr, without `error: `."""
        assert self.stderr.startswith("error: ")
        assert self.stderr.count("\n") == 1, self.stderr
        return self.stderr.removeprefix("error: ").rstrip("\n")


def pathgen(*arguments: object, env: dict[str, str] | None = None) -> Answer:
    """Call `pathgen` with these arguments; an exception that it does not answer for is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def question(question_id: str, text: str = "Which floats?", **changes: Any) -> dict[str, Any]:
    """A row of a question file."""
    return {"id": question_id, "question": text, "choices": ["cork", "lead", "iron"], "answer": "cork"} | changes


def write_questions(path: Path, *rows: dict[str, Any]) -> Path:
    """A question file in JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
