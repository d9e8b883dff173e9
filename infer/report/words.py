"""What the report says in words and figures: the headlines, the cells of the results table, the confusion tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathgen.questions.tasks import find_task
from router.dev.metrics import ActionMetrics

from ..bench.options import GATES, ROUTER, SYSTEMS

NOT_ROUTERS = frozenset(SYSTEMS) - {ROUTER, GATES}
"""Systems that no router decides; every other name is a router's."""
MEANING = "not distinguishable means that the interval of the difference covers zero, not that both are equal"
ACTION_NAMES = ("skip", "execute", "repeat")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the results table.

    Attributes:
        title: its header.
        value: a system's figure to sort by, or None.
        text: that figure as it is shown.
        hint: what it is, for a pointer.
    """

    title: str
    value: Callable[[Mapping[str, Any]], float | None]
    text: Callable[[Mapping[str, Any]], str]
    hint: str


def _figure(title: str, key: str, form: str, hint: str, scale: float = 1.0) -> Column:
    """A column that shows one figure of the bench as it is, times `scale`."""
    return Column(title, lambda system: system[key], lambda system: form.format(scale * system[key]), hint)


def _interval(system: Mapping[str, Any]) -> str:
    low, high = system["accuracy_ci95"]
    return f"{system['accuracy']:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def _delta(system: Mapping[str, Any]) -> str:
    low, high = system["delta_ci95"]
    return f"{_signed(system['delta_vs_full'])} ({_signed(low)} to {_signed(high)})"


def _signed(share: float) -> str:
    """Points with their sign, the minus as long as the plus."""
    return f"{100 * share:+.1f}".replace("-", "−")


COLUMNS = (
    Column("accuracy (95%)", lambda s: s["accuracy"], _interval, "share of right answers, Wilson interval"),
    Column("vs. full, points (95%)", lambda s: s["delta_vs_full"], _delta, "paired bootstrap interval"),
    _figure("p", "p_value", "{:.3f}", "exact McNemar test against full depth"),
    Column(
        "won / lost",
        lambda s: s["discordant"] and s["discordant"][0] - s["discordant"][1],
        lambda s: "{} / {}".format(*s["discordant"]),
        "questions right here and wrong at full depth / the other way round",
    ),
    _figure("depth", "mean_depth", "{:.2f}", "mean layer executions per forward pass"),
    _figure("saved", "layers_saved", "{:.2f}", "layers saved per forward pass"),
    _figure("off full", "off_full_share", "{:.1%}", "share of questions that leave the full path"),
    _figure("off common", "off_common_share", "{:.1%}", "share of questions off the most common path"),
    _figure("tokens/s", "tokens_per_second", "{:,.0f}", "scored or new tokens per second"),
    _figure("p50, ms", "latency_ms_p50", "{:.1f}", "median latency at batch size 1"),
    _figure("p95, ms", "latency_ms_p95", "{:.1f}", "95th percentile of latency at batch size 1"),
    _figure("FLOPs", "flops_ratio", "{:.3f}×", "relative to full depth"),
    _figure("router cost", "router_overhead_ratio", "{:+.1%}", "time that routing adds to the same paths, fixed"),
    _figure("cache, MiB", "cache_bytes", "{:,.2f}", "key-value cache", scale=2**-20),
    _figure("memory, MB", "peak_memory_mb", "{:,.0f}", "peak of the CUDA device"),
)


def used_columns(systems: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns in which at least one system has a figure."""
    return [column for column in COLUMNS if any(column.value(system) is not None for system in systems)]


def verdict(system: Mapping[str, Any]) -> str | None:
    """What the interval of the difference to full depth allows to be said; None without one."""
    if system["name"] == "full" or system["delta_ci95"] is None:
        return None
    low, high = system["delta_ci95"]
    if low <= 0 <= high:
        return "not distinguishable from full depth"
    return "better than full depth" if low > 0 else "worse than full depth"


def note(system: Mapping[str, Any]) -> str:
    """The remark beside a system's figures; empty if there is none."""
    parts = [] if system["setting"] is None else [f"setting {system['setting']}"]
    if system["name"] == "oracle":
        value = system.get("placebo_accuracy")
        parts.append("upper bound, chosen with gold")
        parts.append("no placebo, so its share of chance is unknown" if value is None else f"placebo {value:.1%}")
    return "; ".join(parts)


def headlines(bench: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The findings in words: full depth, every router, the static path, and the oracle if it has its placebo.

    Returns:
        Who each is about, and what is found.
    """
    systems = {s["name"]: s for s in bench["systems"] if s["accuracy"] is not None}
    full = systems.get("full")
    generates = find_task(bench["task"]).generates
    lines = []
    if full:
        found = f"{_interval(full)} of {bench['questions']:,} questions right with all {bench['num_layers']} layers"
        lines.append(("full depth", f"{found}. In brackets: 95% intervals; {MEANING}."))
    for system in systems.values():
        if system["name"] not in NOT_ROUTERS or system["name"] == "static":
            lines.append((system["name"], _system_line(system, full, bench["num_layers"], generates=generates)))
    oracle = systems.get("oracle")
    if oracle and oracle.get("placebo_accuracy") is not None:
        found = (
            f"an upper bound chosen with gold, {oracle['accuracy']:.1%} right; its placebo, as many answers mended as "
            f"reach an equally likely wrong one, {oracle['placebo_accuracy']:.1%}. The search looked for gold alone, "
            "so what lies above the placebo is at most more than chance, and no proof of it."
        )
        lines.append(("oracle", found))
    if seen := bench["seen_in_training"]:
        lines.append(("warning", f"{seen:,} of the questions took part in training or choosing: the figures flatter."))
    return lines


def _system_line(system: Mapping[str, Any], full: Mapping[str, Any] | None, num_layers: int, *, generates: bool) -> str:
    """What is to be said of a system. Of answers that it writes itself no speed: their length decides it."""
    line = f"{_interval(system)} right"
    if said := verdict(system):
        line += f", {_delta(system)} points against full depth: {said}"
    line += f". It runs {system['mean_depth']:.2f} of {num_layers} layers per forward pass"
    if system["off_full_share"] == 0:
        line += " and never leaves the full path"
    elif system["off_common_share"] == 0:
        line += ", one path for every question"
    elif system["off_common_share"] is not None:
        line += f"; {system['off_common_share']:.1%} of questions leave its most common path"
    if full and not generates and system["latency_ms_p50"] and full["latency_ms_p50"]:
        line += f". Measured speed: {full['latency_ms_p50'] / system['latency_ms_p50']:.2f}× full depth's"
    return line + "."


@dataclass(frozen=True, slots=True)
class Confusion:
    """A router's actions against the oracle's, over the questions that the oracle answers right.

    Attributes:
        system: the router's name.
        questions: how many were compared.
        rows: for each action of the oracle, its name and (count, share of the row) of each action of the router.
        macro_f1: mean F1 over the actions that the oracle takes.
    """

    system: str
    questions: int
    rows: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    macro_f1: float


def confusions(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Confusion]:
    """Compare every router with the oracle's paths; none without an oracle that is right somewhere."""
    labels = {row["question_id"]: row["path"] for row in rows.get("oracle", ()) if row["correct"]}
    found = []
    for name, answers in rows.items():
        shared = [row for row in answers if row["question_id"] in labels]
        if name in NOT_ROUTERS or not shared:
            continue
        metrics = ActionMetrics.of(
            np.array([row["path"] for row in shared]), np.array([labels[row["question_id"]] for row in shared])
        )
        counts = metrics.confusion
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        table = tuple(
            (action, tuple((int(count), float(share)) for count, share in zip(line, part, strict=True)))
            for action, line, part in zip(ACTION_NAMES, counts, shares, strict=True)
        )
        found.append(Confusion(name, len(shared), table, metrics.macro_f1))
    return found
