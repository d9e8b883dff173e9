"""Runs of `pathgen generate`: what they report and commit, and the CPU that their driver alone used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.lab.watched import run_command
from pathgen.store.run_folder import RunDirectory


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that ended well.

    Attributes:
        out: its folder.
        summary: what `pathgen generate --json` printed.
        wall_s: from start to end of the process, Ray's start and the model's loading included.
        clock: [samples][2] wall-clock time and CPU seconds that the driver process had used by then; its
            children (Ray's processes and the actors) are not in it.
    """

    out: Path
    summary: dict[str, Any]
    wall_s: float
    clock: list[tuple[float, float]]

    @property
    def driver_cpu_s(self) -> float:
        """CPU seconds of the driver over its whole life."""
        return self.clock[-1][1]

    def driver_share_of_search(self) -> float:
        """CPU seconds of the driver per second of search: over the span that ends with the last shard written."""
        ended = max(shard.stat().st_mtime for shard in (self.out / "paths").glob("*.parquet"))
        times, cpu_s = zip(*self.clock, strict=True)
        span_s = self.summary["search_seconds"]
        before, after = np.interp([ended - span_s, ended], times, cpu_s)
        return float(after - before) / span_s

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """The committed records, sorted by question."""
        table = RunDirectory(str(self.out)).committed.table([*columns, "question_id"])
        return pl.DataFrame(pl.from_arrow(table)).sort("question_id")


def generate(out: Path, *options: str) -> FinishedRun:
    """Run `pathgen generate` with these options, besides `--out` and `--json`.

    Raises:
        PathgenError: if it does not end with exit code 0.
    """
    ended = run_command("generate", "--out", str(out), *options)
    return FinishedRun(out, ended.answer, ended.wall_s, ended.clock)
