"""The bench's report: one HTML file that needs nothing else, neither network nor fonts nor libraries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pathgen.errors import ArtefactError
from pathgen.paths.layer_path import LayerPath
from pathgen.store.files import open_folder, put

from .chart import depth_chart, is_drawn, look
from .words import NOT_ROUTERS, confusions, headlines, note, used_columns, verdict

PAGE = Path(__file__).parent / "report_page"
WIDE_PX, NARROW_PX = (1240, 460), (360, 340)
"""The chart is drawn twice, so that its text is readable on a phone and on a desk."""

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def write_report(bench: Mapping[str, Any], rows: Rows, file: str | Path) -> None:
    """Write the report of one bench; the file appears whole or not at all.

    Args:
        bench: the object of `infer bench --json`. Optional beside it: `command`, the command line as text, and
            `environment`, a mapping of names to values.
        rows: by system, one mapping a question: `question_id`, `prompt`, `choices` (or None), `gold`, `path` (one
            action a layer), `correct`, `answer` (text or None). A system without rows may be left out.
        file: path or URL; its folder is made if need be.

    Raises:
        ArtefactError: a path does not fit the bench's number of layers.
        PathgenError: the file cannot be written.
    """
    script = (PAGE / "script.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    systems, chance = bench["systems"], _chance(rows)
    data = _page_data(bench, rows)
    page = environment.get_template("page.html").render(
        bench=bench,
        headlines=headlines(bench),
        charts={
            "wide": depth_chart(systems, chance, *WIDE_PX),
            "narrow": depth_chart(systems, chance, *NARROW_PX),
        },
        columns=used_columns(systems),
        table=[
            (system, *look(index, system["name"]), verdict(system), note(system))
            for index, system in enumerate(systems)
        ],
        is_drawn=is_drawn,
        dash="–",
        confusions=confusions(rows),
        data=data,
        script=Markup(script),  # noqa: S704  our own file
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
    )
    fs, path = open_folder(str(file))
    put(fs, path, page.encode())


def _chance(rows: Rows) -> float | None:
    """Accuracy of guessing among the choices, or None where a question has none."""
    answers = next(iter(rows.values()), ())
    if not answers or not all(row["choices"] for row in answers):
        return None
    return sum(1 / len(row["choices"]) for row in answers) / len(answers)


def _page_data(bench: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """What the page's script draws from: questions once, paths once, systems as indices into both."""
    questions: dict[str, dict[str, Any]] = {}
    for row in (row for answers in rows.values() for row in answers):
        shown = {"id": row["question_id"], "prompt": row["prompt"], "choices": row["choices"], "gold": row["gold"]}
        questions.setdefault(row["question_id"], shown)
    paths: dict[str, int] = {}
    systems = []
    for name, answers in rows.items():
        by_id = {row["question_id"]: row for row in answers}
        ordered = [by_id.get(question) for question in questions]
        systems.append(
            {
                "name": name,
                "router": name not in NOT_ROUTERS,
                "paths": [row and paths.setdefault(_picture(name, row, bench), len(paths)) for row in ordered],
                "correct": [row and bool(row["correct"]) for row in ordered],
                "answers": [row and row["answer"] for row in ordered],
            }
        )
    return {
        "layers": bench["num_layers"],
        "questions": list(questions.values()),
        "paths": list(paths),
        "systems": systems,
    }


def _picture(name: str, row: Mapping[str, Any], bench: Mapping[str, Any]) -> str:
    """A path as one digit a layer."""
    path = LayerPath(row["path"])
    if len(path) != bench["num_layers"]:
        raise ArtefactError(
            f"{name}, question {row['question_id']}: a path of {len(path)} layers, "
            f"where the bench has {bench['num_layers']}; run the bench again"
        )
    return "".join(map(str, path))
