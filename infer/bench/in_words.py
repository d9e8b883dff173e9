"""A benchmark in plain words: what routers and static paths gained, and what they did not."""

from __future__ import annotations

from pathgen.report.figures import interval, percent, points

from .figures import BenchResult, SystemFigures
from .options import BRIDGED, GATES, ROUTER, SYSTEMS

NOT_DEPLOYED = frozenset(SYSTEMS) - {ROUTER, GATES, "static"}
"""Ways to choose depth that serve for comparison; routers and static paths can be deployed."""
FEW = 50
"""With fewer questions, every interval is wide."""


def in_words(bench: BenchResult) -> list[str]:
    """Sentences about every router and static path that leaves full depth, and a warning if questions are few."""
    run = [system for system in bench.systems if system.skipped is None]
    full = next(system for system in run if system.name == "full")
    lines = []
    for system in run:
        if system.name.removesuffix(BRIDGED) in NOT_DEPLOYED:
            continue
        if system.off_full_share == 0:
            lines.append(f"{system.name} never leaves full depth: nothing is gained, and nothing is lost.")
            continue
        lines.append(_kept(system, bench))
        gained, missed = _gains(system, full)
        lines.append(f"  Gained: {'; '.join(gained) or 'nothing'}.")
        if missed:
            lines.append(f"  Not gained: {'; '.join(missed)}.")
        if rivals := _as_cheap(system, run):
            lines.append(f"  On no more layers, answers kept: {', '.join(rivals)}.")
    if lines and bench.questions < FEW:
        lines.append(f"{bench.questions} questions are few: read the intervals, not the figures.")
    return lines


def _kept(system: SystemFigures, bench: BenchResult) -> str:
    """Depth, and how many of full depth's answers are kept."""
    assert system.agreement is not None and system.agreement_ci95 is not None  # noqa: PT018  not skipped
    kept = round(system.agreement * bench.questions)
    within = interval(system.agreement_ci95, percent)
    return (
        f"{system.name} runs {system.mean_depth:.4g} of {bench.num_layers} layers and gives full depth's answer to "
        f"{kept:,} of {bench.questions:,} questions ({percent(system.agreement)} % {within})."
    )


def _gains(system: SystemFigures, full: SystemFigures) -> tuple[list[str], list[str]]:
    """What is better than full depth, and what is not."""
    assert system.layers_saved is not None and system.flops_ratio is not None  # noqa: PT018  not skipped
    assert system.delta_vs_full is not None and system.delta_ci95 is not None  # noqa: PT018  not full depth
    gained: list[str] = []
    missed: list[str] = []

    def add(text: str, *, is_gain: bool) -> None:
        (gained if is_gain else missed).append(text)

    saved = system.layers_saved
    add(f"{abs(saved):.4g} layers {'fewer' if saved > 0 else 'more'}", is_gain=saved > 0)
    work = 1 - system.flops_ratio
    add(f"{100 * abs(work):.3g} % {'less' if work > 0 else 'more'} work in FLOPs", is_gain=work > 0)
    if system.latency_ms_p50 and full.latency_ms_p50:
        time = system.latency_ms_p50 / full.latency_ms_p50
        add(f"a question takes {time:.2f} times full depth's time", is_gain=time < 1)
    low, high = system.delta_ci95
    verdict = "a loss" if high < 0 else "no clear difference"
    change = f"accuracy, {points(system.delta_vs_full)} points {interval(system.delta_ci95, points)}"
    add(change if low > 0 else f"{change}: {verdict}", is_gain=low > 0)
    return gained, missed


def _as_cheap(system: SystemFigures, run: list[SystemFigures]) -> list[str]:
    """Other ways to choose depth, as deep as the system or less, with the share of answers that they keep."""
    assert system.mean_depth is not None
    return [
        f"{other.name} {percent(other.agreement)} %"
        for other in run
        if other.name.removesuffix(BRIDGED) in NOT_DEPLOYED - {"full", "oracle", "search"}
        and other.agreement is not None
        and other.mean_depth is not None
        and other.mean_depth <= system.mean_depth + 1e-9
    ]
