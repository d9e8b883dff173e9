"""The benchmark's report: one HTML file without network, fonts or libraries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pathgen.errors import ArtefactError
from pathgen.questions.question import Question
from pathgen.store.files import open_folder, put

from ..bench.answers import Answer
from ..bench.figures import BenchResult
from ..bench.options import MEANINGS
from .chart import depth_chart, is_drawn, look
from .words import DETAILS, NOT_ROUTERS, RESULTS, confusions, headlines, note, used_columns, verdict

PAGE = Path(__file__).parent / "report_page"
WIDE_PX, NARROW_PX = (1240, 460), (360, 340)
"""The chart is drawn twice, so that its text is readable on a phone and on a desktop."""

Answers = Mapping[str, Sequence[Answer]]
"""By system, one per question; skipped systems are absent."""


def write_report(
    bench: BenchResult, questions: Sequence[Question], answers: Answers, file: str | Path, command: str = ""
) -> None:
    """Write the report to a path or URL, whole or not at all. It shows the command line.

    Raises:
        ArtefactError: a path does not fit the benchmark's number of layers.
        PathgenError: the file cannot be written.
    """
    script = (PAGE / "script.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    systems, chance = bench.systems, _chance(questions)
    data = _page_data(bench, questions, answers)
    page = environment.get_template("page.html").render(
        bench=bench,
        command=command,
        headlines=headlines(bench),
        wide=depth_chart(systems, chance, *WIDE_PX),
        narrow=depth_chart(systems, chance, *NARROW_PX),
        columns=used_columns(RESULTS, systems),
        details=used_columns(DETAILS, systems),
        meanings=[(system.name, MEANINGS[system.name]) for system in systems if system.name in MEANINGS],
        table=[
            (system, *look(index, system.name), verdict(system), note(system)) for index, system in enumerate(systems)
        ],
        is_drawn=is_drawn,
        dash="–",
        confusions=confusions(answers),
        data=data,
        script=Markup(script),  # noqa: S704  our own file
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
    )
    fs, path = open_folder(str(file))
    put(fs, path, page.encode())


def _chance(questions: Sequence[Question]) -> float | None:
    """Accuracy of guessing, None if a question has no choices."""
    shares = [1 / len(question.choices) for question in questions if question.choices]
    return sum(shares) / len(shares) if shares and len(shares) == len(questions) else None


def _page_data(bench: BenchResult, questions: Sequence[Question], answers: Answers) -> dict[str, Any]:
    """The data of the page's script: each distinct path once, with a digit per layer; systems have indices of paths."""
    paths: dict[str, int] = {}
    systems = []
    for name, given in answers.items():
        for answer in given:
            if len(answer.path) != bench.num_layers:
                raise ArtefactError(
                    f"{name}, question {answer.question_id}: a path of {len(answer.path)} layers, "
                    f"where the bench has {bench.num_layers}; run the benchmark again"
                )
        digits = ["".join(map(str, answer.path)) for answer in given]
        systems.append(
            {
                "name": name,
                "router": name.partition("+")[0] not in NOT_ROUTERS,
                "paths": [paths.setdefault(path, len(paths)) for path in digits],
                "correct": [answer.correct for answer in given],
                "answers": [answer.answer for answer in given],
            }
        )
    shown = [
        {
            "id": question.id,
            "prompt": question.prompt,
            "choices": question.choices,
            "gold": question.gold if question.choices else question.reference,
        }
        for question in questions
    ]
    return {"layers": bench.num_layers, "questions": shown, "paths": list(paths), "systems": systems}
