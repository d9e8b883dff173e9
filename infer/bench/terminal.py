"""A benchmark as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLUMNS = ("system", "accuracy, %", "against full", "depth", "varied", "ms", "work")
"""All else is in the JSON."""
LEGEND = "varied: off the most common path; ms: one question, median; work: in FLOPs"


def bench_text(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the systems, what was skipped and why, and what must be known to read the figures."""
    console = console or Console(highlight=False)
    console.print(
        Text(f"{summary['model']}, {summary['task']}: {summary['questions']} questions, seed {summary['seed']}"),
        style="bold",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
    run = [system for system in summary["systems"] if system["skipped"] is None]
    for system in run:
        table.add_row(*_cells(system))
    console.print(table)
    console.print(LEGEND)
    for system in run:
        if "placebo_accuracy" in system:
            console.print(Text(f"{system['name']}: {system['label']}; {_placebo_text(system)}"))
    for system in summary["systems"]:
        if system["skipped"] is not None:
            console.print(Text(f"{system['name']} skipped: {system['skipped']}"))
    if seen := summary["seen_in_training"]:
        console.print(Text(f"warning: {seen} questions took part in training or choosing", style="yellow"))


def _cells(system: Mapping[str, Any]) -> list[str]:
    return [
        system["name"],
        _with_interval(system["accuracy"], system["accuracy_ci95"], "{:.1f}"),
        _with_interval(system["delta_vs_full"], system["delta_ci95"], "{:+.1f}"),
        f"{system['mean_depth']:.2f}",
        f"{system['off_common_share']:.0%}",
        _shown(system["latency_ms_p50"], "{:.1f}"),
        f"{system['flops_ratio']:.2f}",
    ]


def _with_interval(share: float | None, interval: list[float] | None, form: str) -> str:
    """Percent, or percentage points, with their interval."""
    if share is None or interval is None:
        return "-"
    middle, low, high = (form.format(100 * value) for value in (share, *interval))
    return f"{middle} [{low}, {high}]"


def _placebo_text(system: Mapping[str, Any]) -> str:
    if system["placebo_accuracy"] is None:
        return "these records hold no placebo, so nothing tells how much of it is luck"
    return f"by luck alone it would reach {system['placebo_accuracy']:.1%} or more, as its search looked for gold"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
