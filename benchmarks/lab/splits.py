"""The protocol's parts of ARC and OpenBookQA: who may be labelled, who may be chosen on, and who is sealed.

    python -m benchmarks.lab.splits --data FOLDER --out FOLDER

`FOLDER` holds arc_easy/{train,validation}.jsonl, arc_challenge/train.jsonl and openbookqa/train.jsonl. Questions are
ranked by BLAKE2b of their id. `dev` is for every choice and never for labels; `sealed` and `openbook_sealed` are for
one final table. A text that stands in two parts counts for the labelled one, then for `dev`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.lab.measurement import run_script

Row = dict[str, Any]
DEV, LABELLED_EASY, LABELLED_CHALLENGE = 500, 700, 310


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows in an order that has nothing to do with their content."""
    return sorted(rows, key=lambda row: hashlib.blake2b(str(row["id"]).encode(), digest_size=8).digest())


def split(easy: list[Row], validation: list[Row], challenge: list[Row], openbook: list[Row]) -> dict[str, list[Row]]:
    """The parts by name."""
    easy = ranked(easy)
    parts = {
        "dev": easy[:DEV],
        "easy": easy[DEV : DEV + LABELLED_EASY],
        "challenge": ranked(challenge)[:LABELLED_CHALLENGE],
        "openbook": openbook[1000:1300],
        "sealed": easy[DEV + LABELLED_EASY :] + validation,
        "openbook_sealed": openbook[:1000],
    }
    seen = {text(row) for name in ("easy", "challenge", "openbook") for row in parts[name]}
    parts["dev"] = [row for row in parts["dev"] if text(row) not in seen]
    seen |= {text(row) for row in parts["dev"]}
    for name in ("sealed", "openbook_sealed"):
        parts[name] = [row for row in parts[name] if text(row) not in seen]
    return parts


def text(row: Row) -> str:
    """A question's text, as duplicates are told."""
    return " ".join(row["question"].casefold().split())


def main(
    data: Annotated[Path, typer.Option(help="Folder of the four question files.")],
    out: Annotated[Path, typer.Option(help="Folder of the parts.")],
) -> None:
    """Write each part as a question file."""

    def read(name: str) -> list[Row]:
        return [json.loads(line) for line in (data / name).read_text().splitlines()]

    parts = split(
        read("arc_easy/train.jsonl"),
        read("arc_easy/validation.jsonl"),
        read("arc_challenge/train.jsonl"),
        read("openbookqa/train.jsonl"),
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}: {len(rows)} questions")


if __name__ == "__main__":
    run_script(main)
