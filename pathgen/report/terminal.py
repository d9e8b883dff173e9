"""Prints runs and records in a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..paths.layer_path import LayerPath
from .enough import few_questions
from .figures import count_text
from .headroom import Headroom
from .stats import RunStats
from .validate import Validation

SHADES = " ▁▂▃▄▅▆▇█"
MOST_PATHS = 12


def stats_text(stats: RunStats) -> None:
    """Print `pathgen stats`."""
    console, records = Console(highlight=False), stats.records
    under_way = " (a run is under way)" if stats.under_way else ""
    over = f", over bridges {stats.bridges}" if stats.bridges else ""
    console.print(Text(f"{stats.out}: {stats.model}, task {stats.task}{over}{under_way}", style="bold"))
    console.print(
        f"done {stats.done} of {stats.total}: improved {records.improved}, kept {records.kept}, "
        f"unsolved {records.unsolved}, failed {records.failed}"
    )
    if not records.questions:
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("accuracy, full depth", f"{records.base_accuracy:.1%}")
    if records.cut:
        table.add_row("answers cut", f"{records.cut}", "at full depth, by the most tokens; --max-new-tokens gives room")
    note = "; see placebo" if stats.headroom and stats.headroom.questions else ""
    table.add_row("some path right", f"{records.solved_rate:.1%}", f"upper bound: it knows the answer{note}")
    if records.mean_best_depth is not None and records.num_layers is not None:
        table.add_row("depth of best paths", f"{records.mean_best_depth:.2f} of {records.num_layers}")
        table.add_row("layers saved", f"{records.num_layers - records.mean_best_depth:.2f}", "per forward pass")
    if records.median_best_margin is not None:
        table.add_row("median margin", f"{records.median_best_margin:.2f} nats", "of best paths")
    shared = f"{records.layers_run:,} run, the rest shared" if records.layers_run else ""
    table.add_row("layer executions", f"{records.layer_executions:,}", shared)
    console.print(table)
    _print_headroom(console, stats.headroom)
    _print_histogram(console, stats.action_counts)
    if few := few_questions(records.questions, stats.out):
        console.print(few, soft_wrap=True, markup=False)
    out = shlex.quote(stats.out)
    console.print(
        f"next: pathgen static --paths {out} --out static.json   # static: one path for all questions", soft_wrap=True
    )


def record_text(record: Mapping[str, Any]) -> None:
    """Print `pathgen show`: one record as a picture."""
    console = Console(highlight=False)
    console.print(Text(f"{record['question_id']}: {record['status']}", style="bold"))
    console.print(Text(record["prompt"]))
    for index, choice in enumerate(record["choices"] or ()):
        console.print(Text(f"  {'*' if index == record['gold'] else ' '} {choice}"))
    if record["reference"]:
        console.print(Text(f"  reference: {record['reference']}"))
    if record["error"]:
        console.print(Text(f"failed after {record['attempts']} attempts: {record['error']}", style="red"))
        return
    best = sorted(record["evaluations"], key=_by_worth)[:MOST_PATHS]
    table = Table(box=None, pad_edge=False)
    for name in ("sim", "depth", "margin", ""):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("path (. run, - skip, 2 repeat)", no_wrap=True)
    table.add_column("answer", no_wrap=True, overflow="ellipsis")
    shown = [record["evaluations"][0], *(evaluation for evaluation in best if evaluation["simulation"])]
    for evaluation in shown:
        path = LayerPath(evaluation["path"])
        table.add_row(
            str(evaluation["simulation"]),
            str(path.depth),
            "-" if evaluation["margin"] is None else f"{evaluation['margin']:+.2f}",
            "✓" if evaluation["correct"] else "",
            Text(str(path), style="green" if evaluation["correct"] else "red"),
            Text(_answer(evaluation, record["choices"])),
        )
    console.print(table)
    if len(record["evaluations"]) > len(shown):
        console.print(f"… and {len(record['evaluations']) - len(shown)} more paths that rank lower")
    console.print(_effort(record))


def report_text(report: Validation) -> None:
    """Print `pathgen validate`."""
    console = Console(highlight=False)
    console.print(
        f"{count_text(report.shards, 'shard')}, {count_text(report.records, 'record')}, "
        f"{count_text(report.questions, 'question')}"
    )
    for problem in report.problems:
        console.print(Text(f"  {problem}", style="red"))
    for note in report.notes:
        console.print(Text(f"  {note}"))
    if (again := report.replay).replayed:
        console.print(
            f"{count_text(again.replayed, 'evaluation')} run again: largest gap {again.largest_gap_nats:.2g} nats, "
            f"{count_text(again.verdicts_changed, 'verdict')} changed"
        )
        if (changed := again.float32_verdicts_changed) is not None:
            margin = again.float32_largest_changed_margin
            console.print(
                f"in float32: largest gap {again.float32_largest_gap_nats:.2g} nats, {count_text(changed, 'verdict')} "
                f"changed" + (f", at margins of at most {margin:.2g} nats" if margin is not None else "")
            )
    console.print("valid" if report.valid else "not valid")


def _effort(record: Mapping[str, Any]) -> str:
    text = f"{record['layer_executions']} layer executions"
    if record["layers_run"] is not None:  # an import may not have these
        text += f", {record['layers_run']} run"
    if record["seconds"] is not None:
        text += f"; {record['seconds']:.1f} s"
    if record["stop_reason"] is not None:
        text += f"; ended: {record['stop_reason']}"
    return text


def _by_worth(evaluation: Mapping[str, Any]) -> tuple[bool, int, float]:
    margin = float("-inf") if evaluation["margin"] is None else evaluation["margin"]
    return not evaluation["correct"], sum(evaluation["path"]), -margin


def _answer(evaluation: Mapping[str, Any], choices: Sequence[str] | None) -> str:
    if evaluation["answer"] is not None:
        return " ".join(evaluation["answer"].split())
    scores = evaluation["choice_scores"]
    return choices[max(range(len(scores)), key=scores.__getitem__)] if scores and choices else ""


def _print_headroom(console: Console, headroom: Headroom | None) -> None:
    if headroom is None:
        console.print("how much of what some path answers right is luck is unknown: no choices were scored")
        return
    if headroom.verdict is not None:
        console.print(f"full depth answers {count_text(headroom.questions, 'question')} wrong:")
        console.print(f"  headroom {headroom.gold:6.1%}  of them some path answers right")
        if headroom.placebo is not None:
            what = "of them it would be by luck alone: some path gives a wrong answer that was as likely"
            console.print(f"  placebo  {headroom.placebo:6.1%}  {what}", soft_wrap=True)
        console.print(f"  {headroom.verdict}", soft_wrap=True, markup=False)
    if headroom.breaks is not None:
        console.print(f"full depth's right answers: some path answers {headroom.breaks:.1%} of them wrong")


def _print_histogram(console: Console, counts: Sequence[Sequence[int]]) -> None:
    if not counts:
        return
    most = max(max(skip, repeat) for skip, _, repeat in counts) or 1
    for name, action in (("skipped ", 0), ("repeated", 2)):
        bars = "".join(SHADES[round(row[action] / most * (len(SHADES) - 1))] for row in counts)
        console.print(f"{name} {bars}  layers 0-{len(counts) - 1}, full bar: {count_text(most, 'question')}")
