"""`pathgen generate` as a subprocess, watched from outside: what it reports, and the CPU its driver alone used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from pathgen.errors import PathgenError
from pathgen.rundir import RunDirectory

SAMPLE_S = 0.1
"""Time between two looks at the driver's CPU clock."""


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
    command = [sys.executable, "-m", "pathgen", "generate", "--out", str(out), "--json", *options]
    with tempfile.TemporaryFile() as stdout:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout)
        try:
            clock = _watch(process)
        except BaseException:
            process.terminate()  # it commits what is finished, and takes its actors with it
            process.wait()
            raise
        wall_s = time.perf_counter() - started
        if code := process.wait():
            raise PathgenError(f"pathgen generate {' '.join(options)} ended with exit code {code}")
        stdout.seek(0)
        summary = json.loads(stdout.read().decode().splitlines()[-1])
    return FinishedRun(out, summary, wall_s, clock)


def _watch(process: subprocess.Popen[bytes]) -> list[tuple[float, float]]:
    """Sample the process's CPU clock until it ends, the last time when it has ended and is not yet reaped."""
    driver = psutil.Process(process.pid)
    clock = []
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        used = driver.cpu_times()
        clock.append((time.time(), used.user + used.system))
        if ended:
            return clock
        time.sleep(SAMPLE_S)
