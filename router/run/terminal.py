"""Prints routers and their figures."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pathgen.identity import shown
from pathgen.report.enough import few_questions
from pathgen.report.figures import figure_table, interval, points

from ..dev.figures import DevFigures
from ..net.config import RouterConfig
from ..saved.model_card import fact_text
from ..training.label_examples import LabelFigures
from .evaluation import EvaluationResult
from .training_run import TrainingResult

STATIC_ONLY = "static only: every question takes the same path"
METHODS = {
    "static": "one path for all questions",
    "cascade": "a cheap path first, full depth where it leaves the next token unsure",
    "imitate": "heads that learned the paths which the search found",
    "gates": "a factor per layer, learned on the task's own loss and rounded to skip, run or repeat",
}
"""What each method is, where it is first named."""


def training_text(result: TrainingResult, paths: str) -> None:
    """Print the result of `router train` on the run in `paths`."""
    console = Console(highlight=False)
    kind = STATIC_ONLY if result.static_only else "the question decides"
    console.print(Text(f"{result.router}: {result.method}, {kind}", style="bold"), soft_wrap=True)
    console.print(f"{result.method}: {METHODS[result.method]}", soft_wrap=True)
    console.print(
        f"trained on {result.questions} questions"
        + (f", {result.epochs} epochs" if result.epochs else "")
        + f" in {result.seconds:.1f} s"
        + (f" ({result.feature_seconds:.1f} s of it features)" if result.feature_seconds else "")
        + f"; {result.parameters:,} weights, {result.parameter_share:.2%} of the model's"
    )
    if result.predicted.per_class:
        console.print("on held-out questions, before scale and bias were chosen:")
    _print_labels(console, result.predicted)
    _print_figures(console, result.dev)
    if result.risk:
        console.print(f"stated risk: {result.notes['stated_risk']}", soft_wrap=True)
    if result.chosen_on_dev:
        console.print(
            f"these questions chose the {' and the '.join(result.chosen_on_dev)} among several: they flatter the "
            "router; run `router evaluate` on other questions",
            soft_wrap=True,
        )
    if not result.dev.routed.off_full_share:
        console.print("full depth is deployed: no other path was clearly better on these questions", soft_wrap=True)
    if few := few_questions(result.questions + result.dev.routed.dev_questions, paths):
        console.print(few, soft_wrap=True, markup=False)
    console.print(f"next: router show {shlex.quote(result.router)}", soft_wrap=True)


def evaluation_text(result: EvaluationResult) -> None:
    """Print the result of `router evaluate`."""
    console = Console(highlight=False)
    _print_labels(console, result.predicted)
    _print_figures(console, result.dev)
    if result.seen_in_training:
        console.print(f"the router was trained or chosen on {result.seen_in_training} of these: they flatter it")


def router_text(config: RouterConfig, weights: int, path: str) -> None:
    """Print `router show`."""
    console = Console(highlight=False)
    console.print(Text(f"router for {config.base_model} ({shown(config.base_fingerprint)})", style="bold"))
    kind, reads = STATIC_ONLY, "nothing"
    if config.fall_back_below is not None:
        kind = "cascade: the path below, and full depth for questions whose next token it leaves unsure"
        reads = f"the next token: full depth where it leads by less than {config.fall_back_below:g} nats"
    elif config.reads_states:
        kind = f"{config.head} heads of width {config.width} that read the question, at scale {config.scale:g}"
        reads = f"{config.pooling.kind}, {config.pooling.windows} per prompt"
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "kind": kind,
        "method": config.method + (f", labels {config.labels}" if config.labels else ""),
        "tasks": ", ".join(config.tasks) + (", through the chat template" if config.chat else ""),
        "layers": str(config.num_layers),
        "actions": ", ".join(config.actions),
        "reads": reads,
        "bridges": f"{config.bridges}, where it skips" if config.bridges else "none",
        "weights": f"{weights:,}",
        "bias": f"{config.bias:g}",
        "static part" if config.reads_states else "path": path,
        **{name.replace("_", " "): fact_text(value) for name, value in config.notes.items()},
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    console.print(table)
    console.print("path: one mark per layer, the first layer on the left: . executed  - skipped  2 repeated")


def _print_figures(console: Console, dev: DevFigures) -> None:
    """Print accuracy and depth on development questions: of all, and of each folder if there are several.

    The columns compare full depth, the best path for all questions, the best path for each folder, and the router.
    """
    table = figure_table(
        "", "questions", "full depth", "one path for all", "one for each", "routed", "against full", "mean depth"
    )
    folders = dev.per_folder if len(dev.per_folder) > 1 else ()
    rows = [("all", dev.routed, None), *((row.folder, row.routed, row.own_static_accuracy) for row in folders)]
    for name, row, own in rows:
        table.add_row(
            name,
            str(row.dev_questions),
            f"{row.full_accuracy:.1%}",
            f"{row.static_accuracy:.1%}",
            "" if own is None else f"{own:.1%}",
            f"{row.routed_accuracy:.1%}",
            f"{points(row.delta_vs_full)} {interval(row.delta_ci95, points)}",
            f"{row.mean_depth:.2f}",
        )
    console.print(table)
    console.print(
        f"off the full path: {dev.routed.off_full_share:.1%} of questions; "
        f"off the most common path: {dev.routed.off_common_share:.1%}"
    )
    if not dev.routed.off_common_share:
        console.print("every question takes the same path")


def _print_labels(console: Console, predicted: LabelFigures) -> None:
    if predicted.per_class is None:
        return
    console.print(f"labels: macro-F1 {predicted.macro_f1:.3f}, ECE {predicted.calibration_error:.3f}")
    table = figure_table("action", "precision", "recall", "F1", "labels")
    for action, row in predicted.per_class.items():
        table.add_row(action, f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", f"{row.support:,}")
    console.print(table)
