"""A `pathgen` command as a subprocess, watched from outside: what it prints, its CPU clock and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pathgen.errors import PathgenError

SAMPLE_S = 0.05
"""Time between two looks at the process."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A command that ended well.

    Attributes:
        answer: what it printed for `--json`.
        wall_s: from start to end of the process.
        clock: [samples][2] wall-clock time and CPU seconds that the process had used by then, the last ones at its end;
            its children (Ray's processes and the actors) are not in it.
        peak_memory_mb: the most memory it held, 0 where Linux tells none.
    """

    answer: dict[str, Any]
    wall_s: float
    clock: list[tuple[float, float]]
    peak_memory_mb: float


def run_command(name: str, *options: str) -> Watched:
    """Run a command of `pathgen` with these options, besides `--json`.

    Raises:
        PathgenError: if it does not end with exit code 0.
    """
    with tempfile.TemporaryFile() as stdout:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "pathgen", name, "--json", *options], stdout=stdout)
        try:
            clock, peak_mb = watch(process)
        except BaseException:
            process.terminate()  # it commits what is finished, and takes its actors with it
            process.wait()
            raise
        wall_s = time.perf_counter() - started
        if code := process.wait():
            raise PathgenError(f"pathgen {name} {' '.join(options)} ended with exit code {code}")
        stdout.seek(0)
        answer = json.loads(stdout.read().decode().splitlines()[-1])
    return Watched(answer, wall_s, clock, peak_mb)


def watch(process: subprocess.Popen[bytes]) -> tuple[list[tuple[float, float]], float]:
    """The clock and the peak of `Watched`, until the process has ended; it is not reaped yet."""
    known = psutil.Process(process.pid)
    clock, peak_mb = [], 0.0
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        used = known.cpu_times()
        clock.append((time.time(), used.user + used.system))
        if ended:
            return clock, peak_mb
        peak_mb = max(peak_mb, _peak_memory_mb(process.pid))
        time.sleep(SAMPLE_S)


def _peak_memory_mb(pid: int) -> float:
    """The most memory that a process has held since it began its program, 0 where Linux tells none."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
