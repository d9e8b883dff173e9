"""The figures of a benchmark, as `infer bench --json` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from pathgen.evaluation.intervals import mcnemar_p, paired_difference, wilson_interval
from pathgen.paths.records import PathRecord
from pathgen.questions.question import Question
from pathgen.report.headroom import headroom
from pathgen.store.schema import to_table
from router.dev.metrics import PathShares

from .answers import Point, SystemResult, same_answer
from .model_cost import ModelCost
from .timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFigures:
    """One system's figures; None where they do not apply, or if the system was skipped.

    Attributes:
        accuracy_ci95: Wilson interval.
        delta_vs_full: accuracy less that of full depth; `delta_ci95` is its interval (`difference_interval`).
        p_value: exact McNemar test against full depth.
        discordant: questions won and lost against full depth.
        mean_depth: layer executions per forward pass over the prompt, with those that a cascade repeats.
        off_full_share: share of questions whose path is not the full one.
        off_common_share: share of questions off the system's most common path.
        tokens_per_second: scored or new tokens.
        flops_ratio: work relative to full depth.
        router_overhead_ratio: share of time that routing adds to the same paths, fixed.
        cache_bytes: key-value cache of one question.
        points: results of other settings.
        skipped: the reason why the system did not run.
        agreement: share of questions answered as at full depth; `agreement_ci95` is its Wilson interval.
        cut: number of generated answers that ended only at the most tokens; None where choices are scored.
    """

    name: str
    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    delta_vs_full: float | None = None
    delta_ci95: tuple[float, float] | None = None
    p_value: float | None = None
    discordant: tuple[int, int] | None = None
    mean_depth: float | None = None
    layers_saved: float | None = None
    off_full_share: float | None = None
    off_common_share: float | None = None
    tokens_per_second: float | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    flops_ratio: float | None = None
    router_overhead_ratio: float | None = None
    cache_bytes: int | None = None
    peak_memory_mb: float | None = None
    setting: float | str | None = None
    points: tuple[Point, ...] = ()
    skipped: str | None = None
    agreement: float | None = None
    agreement_ci95: tuple[float, float] | None = None
    cut: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        questions: Sequence[Question],
        result: SystemResult,
        full: SystemResult,
        cost: ModelCost,
        seed: int,
    ) -> SystemFigures:
        """Accuracy, depth and work, compared with full depth on the same questions; `seed` is for the bootstrap."""
        correct = result.correct
        kept = sum(map(same_answer, questions, result.answers, full.answers))
        shares = PathShares.of(np.array(result.paths))
        found = cls(
            name=name,
            accuracy=float(correct.mean()),
            accuracy_ci95=wilson_interval(int(correct.sum()), len(correct)),
            mean_depth=result.mean_depth,
            layers_saved=len(result.paths[0]) - result.mean_depth,
            off_full_share=shares.off_full,
            off_common_share=shares.off_common,
            flops_ratio=cost.ratio([answer.effort for answer in result.answers]),
            setting=result.setting,
            points=result.points,
            agreement=kept / len(correct),
            agreement_ci95=wilson_interval(kept, len(correct)),
            cut=sum(answer.cut for answer in result.answers) if questions[0].choices is None else None,
        )
        if name == "full":
            return found
        compared = paired_difference(correct, full.correct, seed, same_paths=shares.off_full == 0)
        return replace(
            found,
            delta_vs_full=compared.delta,
            delta_ci95=compared.ci95,
            p_value=mcnemar_p(*compared.discordant),
            discordant=compared.discordant,
        )

    def timed(self, timing: Timing, fixed: Timing | None) -> SystemFigures:
        """With time and memory; `fixed` is the timing of a router's paths without the router."""
        return replace(
            self,
            tokens_per_second=timing.tokens_per_second,
            latency_ms_p50=timing.latency_ms(50),
            latency_ms_p95=timing.latency_ms(95),
            router_overhead_ratio=timing.overhead_over(fixed) if fixed else None,
            cache_bytes=timing.cache_bytes,
            peak_memory_mb=timing.peak_memory_mb,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleFigures(SystemFigures):
    """The oracle's figures, to be read only together with its placebo.

    Attributes:
        placebo_accuracy: lower bound of the oracle's accuracy by luck alone: wrong answers are mended as often as
            paths reach a wrong choice that full depth ranked like gold. None for generated answers, if no wrong
            choice ranked like gold, and if searches stopped at the first right path.
    """

    label: str = "upper bound, chosen with gold"
    placebo_accuracy: float | None = None

    def with_placebo(self, records: Sequence[PathRecord]) -> OracleFigures:
        """With the placebo of the oracle's searches."""
        found = headroom(pl.DataFrame(pl.from_arrow(to_table(records))))
        if found is None or found.placebo is None or found.stopped_early:
            return self
        base = float(np.mean([bool(record.base_correct) for record in records]))
        return replace(self, placebo_accuracy=base + (1 - base) * found.placebo)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """The result of a benchmark.

    Attributes:
        questions: number of questions that were asked.
        seen_in_training: number of given questions that took part in training or choosing.
        environment: versions and hardware.
        settings: the resolved options.
    """

    model: str
    task: str
    questions: int
    seed: int
    seen_in_training: int
    num_layers: int
    batch_size: int
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    systems: tuple[SystemFigures, ...]
