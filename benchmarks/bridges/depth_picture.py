"""The picture of accuracy and agreement against depth, from stored results: a column for each file.

    python -m benchmarks.bridges.depth_picture [RESULT.json …] --out docs/images/depth.svg

Reads what `bridges.paths` and the benchmark of rivals store; without files, those of the README. Bars are 95 % Wilson
intervals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from markupsafe import escape

from benchmarks.lab.measurement import run_script
from benchmarks.lab.stored_answers import FULL
from infer.report.chart import Scale
from pathgen.errors import InputError
from pathgen.evaluation.intervals import wilson_interval
from pathgen.paths.layer_path import LayerPath

RESULTS = Path(__file__).parents[1] / "results"
OF_README = ("bridged_1.5b_letters.json", "bridged_135m_builtin.json", "bridged_135m_sealed_arc.json")
BRIDGES, PLAIN = "with bridges", "plain skip"
NAMES = {"bridged": BRIDGES, "ours+bridges": BRIDGES, "plain": PLAIN, "ours": PLAIN}
"""A system's name in a file: its name in the picture. Others keep theirs."""
COLOURS = ("#0b6bcb", "#c2410c", "#6b7280", "#15803d", "#7c3aed", "#a16207", "#be185d")
PANEL_W, PANEL_H, LEFT, TOP, BETWEEN = 330, 190, 58, 76, 34
APART = 5.0
"""Pixels between the marks of systems at one depth."""


@dataclass(frozen=True, slots=True)
class Point:
    """A system at a depth: shares of right answers, and of answers that are full depth's."""

    depth: int
    accuracy: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Column:
    """What a file holds; `asked` says on which questions, `systems` has points by name in the picture, deepest last."""

    title: str
    asked: str
    questions: int
    full_accuracy: float
    layers: int
    systems: dict[str, tuple[Point, ...]]


def read_column(content: Mapping[str, Any]) -> Column:
    """A file of `bridges.paths` (`ways`: `plain|26`), or of the benchmark of rivals (`depths`, then systems).

    Raises:
        InputError: it is neither.
    """
    points: dict[str, list[Point]] = {}

    def add(system: str, depth: int, row: Mapping[str, Any]) -> None:
        points.setdefault(NAMES.get(system, system), []).append(Point(depth, row["accuracy"], row["agreement"]))

    if "ways" in content:
        for name, row in content["ways"].items():
            if name != FULL:
                add(name.partition("|")[0], LayerPath.parse(row["path"]).depth, row)
        full, count = content["ways"][FULL]["accuracy"], content["questions"]
        layers = len(content["ways"][FULL]["path"])
    elif "depths" in content:
        for depth, rows in content["depths"].items():
            for system, row in rows.items():
                add(system, int(depth), row)
        full, count = content["full_accuracy"], content["questions"]["count"]
        layers = len(next(iter(content["paths"].values())))
    else:
        raise InputError("a result holds neither `ways` nor `depths`: give files of bridges.paths or of the rivals")
    order = sorted(points, key=lambda name: (name != BRIDGES, name != PLAIN, name))
    systems = {name: tuple(sorted(points[name], key=lambda point: point.depth)) for name in order}
    task = {"arc-letter": "by letter", "arc": "by continuation"}.get(content["task"], content["task"])
    title = f"{content['model'].rsplit('/', 1)[-1]}, {task}"
    return Column(title, content.get("asked", f"{count:,} unseen questions"), count, full, layers, systems)


def picture(columns: Sequence[Column]) -> str:
    """The SVG: accuracy above, agreement below."""
    names = list(dict.fromkeys(name for column in columns for name in column.systems))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    width = LEFT + len(columns) * (PANEL_W + LEFT) - 20
    height = TOP + 2 * PANEL_H + BETWEEN + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12" fill="#111827" role="img" aria-label="Accuracy and agreement with full depth against depth">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_legend(names, colours),
    ]
    for place, column in enumerate(columns):
        left = LEFT + place * (PANEL_W + LEFT)
        parts.append(f'<text x="{left}" y="{TOP - 28}" font-weight="bold">{escape(column.title)}</text>')
        parts.append(f'<text x="{left}" y="{TOP - 12}">{escape(column.asked)}</text>')
        depths = [point.depth for found in column.systems.values() for point in found]
        x = Scale(min(depths) - 0.5, column.layers + 0.5, left, left + PANEL_W, 1)
        for row, (what, full) in enumerate((("accuracy", column.full_accuracy), ("agreement", 1.0))):
            top = TOP + row * (PANEL_H + BETWEEN)
            parts += _panel(column, what, full, x, top, colours)
        middle, said = left + PANEL_W / 2, f"layers run, of {column.layers}"
        parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{said}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _legend(names: Sequence[str], colours: Mapping[str, str]) -> Iterable[str]:
    x = LEFT
    for name in names:
        yield f'<circle cx="{x + 6}" cy="20" r="5" fill="{colours[name]}"/>'
        yield f'<text x="{x + 16}" y="24">{escape(name)}</text>'
        x += 34 + 7 * len(name)


def _panel(column: Column, what: str, full: float, x: Scale, top: float, colours: Mapping[str, str]) -> Iterable[str]:
    y = Scale(0.0, 1.0, top + PANEL_H, top, 0.2)
    left, right = x.start_px, x.end_px
    said = "right answers" if what == "accuracy" else "full depth's answer kept"
    for tick in y.ticks:
        yield f'<line x1="{left}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}" stroke="#e5e7eb"/>'
        yield f'<text x="{left - 6}" y="{y(tick) + 4}" text-anchor="end">{100 * tick:.0f} %</text>'
    yield f'<text x="{left + 6}" y="{top + PANEL_H - 8}" fill="#374151">{said}</text>'
    yield f'<line x1="{left}" x2="{right}" y1="{y(full)}" y2="{y(full)}" stroke="#111827" stroke-dasharray="4 3"/>'
    if what == "accuracy":
        yield f'<text x="{right}" y="{y(full) - 8}" text-anchor="end">full depth, {100 * full:.1f} %</text>'
    depths = {point.depth for found in column.systems.values() for point in found} | {column.layers}
    for depth in sorted(depths):
        yield f'<text x="{x(depth)}" y="{top + PANEL_H + 16}" text-anchor="middle">{depth}</text>'
    middle = (len(column.systems) - 1) / 2
    for place, (name, found) in enumerate(column.systems.items()):
        colour, aside = colours[name], APART * (place - middle)
        marks = [(x(point.depth) + aside, getattr(point, what), point.depth) for point in found]
        line = " ".join(f"{px:.1f},{y(share)}" for px, share, _ in [*marks, (x(column.layers), full, 0)])
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.6"/>'
        for px, share, depth in marks:
            low, high = wilson_interval(round(share * column.questions), column.questions)
            yield f'<path d="M{px:.1f} {y(low)}V{y(high)}" stroke="{colour}" stroke-width="1.5"/>'
            text = f"{name}, {depth} layers: {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            yield f'<circle cx="{px:.1f}" cy="{y(share)}" r="4" fill="{colour}"><title>{escape(text)}</title></circle>'


def main(
    results: Annotated[list[Path] | None, typer.Argument(help="Result files [default: those of the README].")] = None,
    out: Annotated[Path, typer.Option(help="SVG file to write.")] = Path("docs/images/depth.svg"),
) -> None:
    """Draw the picture, and name its files."""
    files = results or [RESULTS / name for name in OF_README]
    columns = [read_column(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    out.write_text(picture(columns), encoding="utf-8")
    print(f"{out}: {', '.join(file.name for file in files)}")


if __name__ == "__main__":
    run_script(main)
