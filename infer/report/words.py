"""The texts and figures of the report: headlines, the results table, confusion tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pathgen.paths.layer_path import LayerAction
from pathgen.questions.tasks import find_task
from pathgen.report.figures import percent, points
from router.dev.metrics import ActionMetrics

from ..bench.answers import Answer
from ..bench.figures import BenchResult, OracleFigures, SystemFigures
from ..bench.options import GATES, ROUTER, SYSTEMS

NOT_ROUTERS = frozenset(SYSTEMS) - {ROUTER, GATES}
"""Systems without a router; every other name is a router."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the results table: it is sorted by `value`, shows `text`, and has `hint` as tooltip."""

    title: str
    value: Callable[[SystemFigures], float | None]
    text: Callable[[SystemFigures], str]
    hint: str


def _figure(title: str, value: Callable[[SystemFigures], float | None], form: str, hint: str) -> Column:
    return Column(title, value, lambda system: form.format(value(system)), hint)


def _interval(ends: tuple[float, float] | None, form: Callable[[float], str]) -> str:
    return "({} to {})".format(*map(form, ends or ()))


def _accuracy(system: SystemFigures) -> str:
    return f"{system.accuracy:.1%} {_interval(system.accuracy_ci95, percent)}"


def _delta(system: SystemFigures) -> str:
    return f"{_signed(system.delta_vs_full or 0.0)} {_interval(system.delta_ci95, _signed)}"


def _signed(share: float) -> str:
    """Points with a sign; the minus sign is as long as the plus sign."""
    return points(share).replace("-", "−")


RESULTS = (
    Column("accuracy (95%)", lambda s: s.accuracy, _accuracy, "share of right answers, Wilson interval"),
    Column("vs. full, points (95%)", lambda s: s.delta_vs_full, _delta, "interval of the paired difference"),
    Column(
        "answers kept (95%)",
        lambda s: s.agreement,
        lambda s: f"{s.agreement:.1%} {_interval(s.agreement_ci95, percent)}",
        "share of questions answered as at full depth, right or wrong; Wilson interval",
    ),
    _figure("depth", lambda s: s.mean_depth, "{:.2f}", "mean layer executions per forward pass"),
    _figure("p50, ms", lambda s: s.latency_ms_p50, "{:.1f}", "median latency at batch size 1"),
    _figure("FLOPs", lambda s: s.flops_ratio, "{:.3f}×", "relative to full depth"),
)
"""The columns of the first table: with the note they fit a page of 1,200 px."""
DETAILS = (
    _figure("p", lambda s: s.p_value, "{:.3f}", "exact McNemar test against full depth"),
    Column(
        "won / lost",
        lambda s: None if s.discordant is None else s.discordant[0] - s.discordant[1],
        lambda s: "{} / {}".format(*s.discordant or ()),
        "questions right here and wrong at full depth / the reverse",
    ),
    _figure("cut", lambda s: s.cut, "{:,}", "answers that ended only at the most tokens (--max-new-tokens)"),
    _figure("saved", lambda s: s.layers_saved, "{:.2f}", "layers saved per forward pass"),
    _figure("off full", lambda s: s.off_full_share, "{:.1%}", "share of questions that leave the full path"),
    _figure("off common", lambda s: s.off_common_share, "{:.1%}", "share of questions off the most common path"),
    _figure("tokens/s", lambda s: s.tokens_per_second, "{:,.0f}", "scored or new tokens per second"),
    _figure("p95, ms", lambda s: s.latency_ms_p95, "{:.1f}", "95th percentile of latency at batch size 1"),
    _figure(
        "router cost", lambda s: s.router_overhead_ratio, "{:+.1%}", "time that routing adds to the same paths, fixed"
    ),
    Column("cache, MiB", lambda s: s.cache_bytes, lambda s: f"{(s.cache_bytes or 0) / 2**20:,.2f}", "key-value cache"),
    _figure("memory, MB", lambda s: s.peak_memory_mb, "{:,.0f}", "peak of the CUDA device"),
)
"""The columns of the second table, about the comparison, paths, time and memory."""


def used_columns(columns: Sequence[Column], systems: Sequence[SystemFigures]) -> list[Column]:
    """The columns in which at least one system has a figure."""
    return [column for column in columns if any(column.value(system) is not None for system in systems)]


def verdict(system: SystemFigures) -> str | None:
    """How the system compares with full depth, by the interval of the difference; None without an interval."""
    if system.delta_ci95 is None:
        return None
    low, high = system.delta_ci95
    if low <= 0 <= high:
        return "not distinguishable from full depth"
    return "better than full depth" if low > 0 else "worse than full depth"


def note(system: SystemFigures) -> str:
    """The note next to a system's figures; may be empty."""
    parts = [] if system.setting is None else [f"setting {system.setting}"]
    if system.name.partition("+")[0] == "static" and system.off_full_share == 0:
        parts = ["the full path: no other was clearly better"]
    if isinstance(system, OracleFigures):
        value = system.placebo_accuracy
        parts.append(system.label)
        parts.append("no placebo, so its share of luck is unknown" if value is None else f"placebo {value:.1%}")
    return "; ".join(parts)


def headlines(bench: BenchResult) -> list[tuple[str, str]]:
    """Names and findings: full depth, every router, the static path, and the oracle if it has its placebo."""
    systems = {system.name: system for system in bench.systems if system.skipped is None}
    full = systems.get("full")
    generates = find_task(bench.task).generates
    lines = []
    if full:
        found = f"{_accuracy(full)} of {bench.questions:,} questions right with all {bench.num_layers} layers"
        meaning = "not distinguishable means that the interval of the difference includes zero, not that both are equal"
        lines.append(("full depth", f"{found}. In brackets: 95% intervals; {meaning}."))
    for system in systems.values():
        if system.name.partition("+")[0] not in NOT_ROUTERS or system.name == "static":
            lines.append((system.name, _system_line(system, full, bench.num_layers, generates=generates)))
    oracle = systems.get("oracle")
    if isinstance(oracle, OracleFigures) and oracle.placebo_accuracy is not None:
        found = (
            f"an upper bound chosen with gold, {oracle.accuracy:.1%} right. Its placebo, if answers were mended as "
            f"often as an equally likely wrong one is reached: {oracle.placebo_accuracy:.1%}. The search looked only "
            "for gold, so accuracy above the placebo is an upper bound and does not prove headroom."
        )
        lines.append(("oracle", found))
    if seen := bench.seen_in_training:
        found = f"{seen:,} of the questions took part in training or choosing, so the figures are too optimistic."
        lines.append(("warning", found))
    return lines


def _system_line(system: SystemFigures, full: SystemFigures | None, num_layers: int, *, generates: bool) -> str:
    """A system's finding. There is no speed for generated answers, as it depends on their length."""
    line = f"{_accuracy(system)} right"
    if said := verdict(system):
        line += f", {_delta(system)} points against full depth: {said}"
    line += f". It runs {system.mean_depth:.2f} of {num_layers} layers per forward pass"
    if system.off_full_share == 0:
        line += " and never leaves the full path"
    elif system.off_common_share == 0:
        line += ", one path for every question"
    elif system.off_common_share is not None:
        line += f"; {system.off_common_share:.1%} of questions leave its most common path"
    if system.agreement is not None and system.off_full_share:
        line += f". It gives full depth's answer to {system.agreement:.1%} {_interval(system.agreement_ci95, percent)}"
    if full and not generates and system.latency_ms_p50 and full.latency_ms_p50:
        line += f". Measured speed: {full.latency_ms_p50 / system.latency_ms_p50:.2f}× full depth's"
    return line + "."


@dataclass(frozen=True, slots=True)
class Confusion:
    """A router's actions against the oracle's, over the questions that the oracle answers right.

    `rows` has each action of the oracle, with (count, share of the row) of each action of the router.
    """

    system: str
    questions: int
    rows: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    macro_f1: float


def confusions(answers: Mapping[str, Sequence[Answer]]) -> list[Confusion]:
    """Compare every router with the oracle, given answers by system, one per question."""
    labels = {answer.question_id: answer.path for answer in answers.get("oracle", ()) if answer.correct}
    found = []
    for name, given in answers.items():
        pairs = [(answer.path, labels[answer.question_id]) for answer in given if answer.question_id in labels]
        if name.partition("+")[0] in NOT_ROUTERS or not pairs:
            continue
        metrics = ActionMetrics.of(*map(np.array, zip(*pairs, strict=True)))
        counts = metrics.confusion
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        table = tuple(
            (action.name.lower(), tuple((int(count), float(share)) for count, share in zip(line, part, strict=True)))
            for action, line, part in zip(LayerAction, counts, shares, strict=True)
        )
        found.append(Confusion(name, len(pairs), table, metrics.macro_f1))
    return found
