"""Routers and their figures as people like to see them, in a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..net.config import RouterConfig

SKIPPED, EXECUTED, REPEATED = "·", "█", "▓"


def training_text(summary: Mapping[str, Any]) -> None:
    """Print the end of `router train`."""
    console = Console(highlight=False)
    kind = "static only: every question takes the same path" if summary["static_only"] else "reads the question"
    console.print(Text(f"{summary['router']}: {summary['method']}, {kind}", style="bold"), soft_wrap=True)
    console.print(
        f"trained on {summary['questions']} questions"
        + (f", {summary['epochs']} epochs" if summary["epochs"] else "")
        + f" in {summary['seconds']:.1f} s"
        + (f" ({summary['feature_seconds']:.1f} s of it features)" if summary["feature_seconds"] else "")
        + f"; {summary['parameters']:,} weights, {summary['parameter_share']:.2%} of the model's"
    )
    if summary["per_class"]:
        console.print("on held-out questions, before scale and bias were chosen:")
        _print_classes(console, summary)
    figures_text(summary, console)
    if chosen := summary["chosen_on_dev"]:
        console.print(
            f"these questions chose the {' and the '.join(chosen)} among several: they flatter the router; "
            "`router evaluate` on others does not",
            soft_wrap=True,
        )
    console.print(f"next: router show {shlex.quote(summary['router'])}", soft_wrap=True)


def evaluation_text(figures: Mapping[str, Any]) -> None:
    """Print the end of `router evaluate`."""
    console = Console(highlight=False)
    if figures["per_class"]:
        _print_classes(console, figures)
    figures_text(figures, console)
    if figures["seen_in_training"]:
        console.print(f"the router was trained or chosen on {figures['seen_in_training']} of these: they flatter it")


def figures_text(figures: Mapping[str, Any], console: Console) -> None:
    """Print accuracy and depth on development questions, by folder where there are several.

    Beside the router stand the best one path for all questions and, by folder, the best one for that folder's alone.
    """
    table = Table(box=None, pad_edge=False)
    for name in (
        "",
        "questions",
        "full depth",
        "one path for all",
        "one for each",
        "routed",
        "against full",
        "mean depth",
    ):
        table.add_column(name, justify="left" if not name else "right")
    folders = figures["per_folder"] if len(figures["per_folder"]) > 1 else []
    # "one for each": the best path of each folder alone, beside the one for all.
    for name, row in [("all", figures), *((row["folder"], row) for row in folders)]:
        low, high = row["delta_ci95"]
        table.add_row(
            name,
            str(row["dev_questions"]),
            f"{row['full_accuracy']:.1%}",
            f"{row['static_accuracy']:.1%}",
            "" if (own := row.get("own_static_accuracy")) is None else f"{own:.1%}",
            f"{row['routed_accuracy']:.1%}",
            f"{100 * row['delta_vs_full']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            f"{row['mean_depth']:.2f}",
        )
    console.print(table)
    console.print(
        f"off the full path: {figures['off_full_share']:.1%} of questions; "
        f"off the most common path: {figures['off_common_share']:.1%}"
    )
    if not figures["off_common_share"]:
        console.print("every question takes the same path")


def router_text(config: RouterConfig, weights: int, path: str) -> None:
    """Print `router show`."""
    console = Console(highlight=False)
    console.print(Text(f"router for {config.base_model} ({config.base_fingerprint})", style="bold"))
    kind = (
        "static only: every question takes the same path"
        if config.static_only
        else f"{config.head} heads of width {config.width} that read the question, at scale {config.scale:g}"
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "kind": kind,
        "method": config.method + (f", labels {config.labels}" if config.labels else ""),
        "tasks": ", ".join(config.tasks) + (", through the chat template" if config.chat else ""),
        "layers": str(config.num_layers),
        "actions": ", ".join(config.actions),
        "reads": "nothing" if config.static_only else f"{config.pooling.kind}, {config.pooling.windows} a prompt",
        "weights": f"{weights:,}",
        "bias": f"{config.bias:g}",
        "static part": path,
        **{name.replace("_", " "): _shown(value) for name, value in config.notes.items()},
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    console.print(table)
    console.print(f"{EXECUTED} executed  {SKIPPED} skipped  {REPEATED} repeated")


def _print_classes(console: Console, summary: Mapping[str, Any]) -> None:
    console.print(f"labels: macro-F1 {summary['macro_f1']:.3f}, ECE {summary['calibration_error']:.3f}")
    table = Table(box=None, pad_edge=False)
    for name in ("action", "precision", "recall", "F1", "labels"):
        table.add_column(name, justify="left" if name == "action" else "right")
    for action, row in summary["per_class"].items():
        shares = (f"{row[name]:.3f}" for name in ("precision", "recall", "f1"))
        table.add_row(action, *shares, f"{row['support']:,}")
    console.print(table)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
