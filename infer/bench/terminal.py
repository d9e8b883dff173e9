"""A benchmark as a table in the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from pathgen.report.figures import figure_table, interval, percent, points

from .figures import BenchResult, OracleFigures, SystemFigures
from .in_words import in_words
from .options import MEANINGS

COLUMNS = ("system", "accuracy, %", "against full", "depth", "varied", "ms", "work")
LEGEND = "brackets: 95 % intervals; varied: off the most common path; ms: one question, median; work: in FLOPs"


def bench_text(bench: BenchResult, console: Console | None = None) -> None:
    """Print a table of the systems, why others were skipped, the oracle's placebo, warnings, and it all in words."""
    console = console or Console(highlight=False)
    console.print(Text(f"{bench.model}, {bench.task}: {bench.questions} questions, seed {bench.seed}", style="bold"))
    table = figure_table(*COLUMNS, no_wrap=True)
    table.padding = (0, 1, 0, 0)
    run = [system for system in bench.systems if system.skipped is None]
    for system in run:
        table.add_row(*_cells(system))
    console.print(table)
    console.print(LEGEND)
    for system in run:
        if isinstance(system, OracleFigures):
            placebo = system.placebo_accuracy
            luck = "these records have no placebo, so its share of luck is unknown"
            if placebo is not None:
                luck = f"its placebo: luck alone would reach {placebo:.1%} or more, as its search looked for gold"
            console.print(Text(f"{system.name}: {system.label}; {luck}"))
        elif system.name in MEANINGS and system.name != "full":
            console.print(Text(f"{system.name}: {MEANINGS[system.name]}"))
    for system in bench.systems:
        if system.skipped is not None:
            console.print(Text(f"{system.name} skipped: {system.skipped}"))
    if cut := [f"{system.name} {system.cut}" for system in run if system.cut]:
        console.print(
            Text(f"answers cut at the most tokens: {', '.join(cut)}; --max-new-tokens gives room", style="yellow")
        )
    if seen := bench.seen_in_training:
        console.print(Text(f"warning: {seen} questions took part in training or choosing", style="yellow"))
    if words := in_words(bench):
        console.print(Text("In words", style="bold"))
        for line in words:
            console.print(Text(line))


def _cells(system: SystemFigures) -> list[str]:
    return [
        system.name,
        _with_interval(system.accuracy, system.accuracy_ci95, percent),
        _with_interval(system.delta_vs_full, system.delta_ci95, points),
        f"{system.mean_depth:.2f}",
        f"{system.off_common_share:.0%}",
        "-" if system.latency_ms_p50 is None else f"{system.latency_ms_p50:.1f}",
        f"{system.flops_ratio:.2f}",
    ]


def _with_interval(share: float | None, ends: tuple[float, float] | None, form: Callable[[float], str]) -> str:
    return "-" if share is None or ends is None else f"{form(share)} {interval(ends, form)}"
