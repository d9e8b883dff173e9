"""One system's entry in a benchmark's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.report.headroom import headroom
from pathgen.store.schema import to_table
from router.dev.metrics import PathShares

from .answers import SystemResult
from .model_cost import ModelCost
from .statistics import Comparison, wilson_interval
from .timing import Timing

ORACLE_LABEL = "upper bound, chosen with gold"
FIGURES = (
    "accuracy",
    "accuracy_ci95",
    "delta_vs_full",
    "delta_ci95",
    "p_value",
    "discordant",
    "mean_depth",
    "layers_saved",
    "off_full_share",
    "off_common_share",
    "tokens_per_second",
    "latency_ms_p50",
    "latency_ms_p95",
    "flops_ratio",
    "router_overhead_ratio",
    "cache_bytes",
    "peak_memory_mb",
    "setting",
)
"""Of every system, null where they do not apply."""


def skipped_figures(name: str, reason: str) -> dict[str, Any]:
    """Of a system that could not be run."""
    placebo = {"label": ORACLE_LABEL, "placebo_accuracy": None} if name == "oracle" else {}
    return {"name": name, **dict.fromkeys(FIGURES), "points": [], "skipped": reason, **placebo}


def system_figures(name: str, result: SystemResult, full: SystemResult, cost: ModelCost, seed: int) -> dict[str, Any]:
    """Accuracy, depth and work of a system; what is measured in seconds is null yet.

    Args:
        name: of the system.
        result: what it did.
        full: what full depth did on the same questions.
        cost: of the questions on the model.
        seed: of the bootstrap.
    """
    correct = result.correct
    shares = PathShares.of(np.array(result.paths))
    found = {
        **skipped_figures(name, ""),
        "accuracy": float(correct.mean()),
        "accuracy_ci95": list(wilson_interval(int(correct.sum()), len(correct))),
        "mean_depth": shares.mean_depth,
        "layers_saved": len(result.paths[0]) - shares.mean_depth,
        "off_full_share": shares.off_full,
        "off_common_share": shares.off_common,
        "flops_ratio": cost.ratio([answer.effort for answer in result.answers]),
        "setting": result.setting,
        "points": [asdict(point) for point in result.points],
        "skipped": None,
    }
    if name != "full":
        compared = Comparison.of(correct, full.correct, seed)
        found |= {
            "delta_vs_full": compared.delta,
            "delta_ci95": list(compared.ci95),
            "p_value": compared.p_value,
            "discordant": list(compared.discordant),
        }
    return found


def timing_figures(timing: Timing, fixed: Timing | None) -> dict[str, Any]:
    """What was measured in seconds and bytes.

    Args:
        timing: of the system.
        fixed: of the same paths given from outside, where a router decides.
    """
    return {
        "tokens_per_second": timing.tokens_per_second,
        "latency_ms_p50": timing.latency_ms(50),
        "latency_ms_p95": timing.latency_ms(95),
        "router_overhead_ratio": timing.overhead_over(fixed) if fixed else None,
        "cache_bytes": timing.cache_bytes,
        "peak_memory_mb": timing.peak_memory_mb,
    }


def oracle_figures(records: Sequence[PathRecord]) -> dict[str, Any]:
    """What nobody may read the oracle without.

    `placebo_accuracy` is what it would reach by luck alone, at least: as many wrong answers mended as paths reach a
    wrong choice that full depth ranked like gold and that no search looked for. None for generated answers, where no
    wrong choice ranked so, and where searches stopped at the first right path.
    """
    found = headroom(pl.DataFrame(pl.from_arrow(to_table(records))))
    base = float(np.mean([bool(record.base_correct) for record in records]))
    placebo = found["placebo"] if found and not found["stopped_early"] else None
    return {
        "label": ORACLE_LABEL,
        "placebo_accuracy": None if placebo is None else base + (1 - base) * placebo,
    }


def question_rows(questions: Sequence[Question], result: SystemResult) -> list[dict[str, Any]]:
    """What a system did, a row a question, for the report."""
    return [
        {
            "question_id": question.id,
            "prompt": question.prompt,
            "choices": list(question.choices) if question.choices else None,
            "gold": question.gold if question.choices else question.reference,
            "path": list(answer.path),
            "correct": answer.correct,
            "answer": answer.answer,
        }
        for question, answer in zip(questions, result.answers, strict=True)
    ]
