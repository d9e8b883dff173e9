"""Runs of `pathgen generate` on a tiny model that can be killed: the driver, an actor, or everything."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
ACTOR_TITLE = "ray::SearchWorker"
OFTEN = {"OMP_NUM_THREADS": "1", "LAYERPATHS_SHARD_S": "1.0", "LAYERPATHS_PROGRESS_S": "1.0"}
"""Environment of a run that commits every second."""
ACTORS_GONE_WITHIN_S = 10.0
ALL_GONE_WITHIN_S = 90.0
"""Ray's agents look for their head for a minute after it was killed."""
RUN_LIMIT_S = 300.0


def generate_command(model: Path, questions: int, simulations: int, *more: str) -> list[str]:
    """A run of the built-in questions with one thread an actor, its folder left open.

    Args:
        model: its folder.
        questions: how many.
        simulations: of each.
        more: further options.
    """
    flags = {"model": model, "limit": questions, "simulations": simulations, "threads-per-actor": 1}
    words = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "pathgen", "generate", *words, *more, "--json", "--quiet"]


class Run:
    """One process of `pathgen generate` with all its descendants, none of which outlives it unseen.

    Args:
        command: without its folder.
        out: the folder.
    """

    def __init__(self, command: list[str], out: Path):
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  it lives as long as the run
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=os.environ | OFTEN,
            cwd=ROOT,
            start_new_session=True,
        )
        self.driver = psutil.Process(self.process.pid)
        self.descendants: set[psutil.Process] = set()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def look(self) -> list[psutil.Process]:
        """The actors there are now; takes note of all descendants."""
        with suppress(psutil.Error):
            self.descendants.update(self.driver.children(recursive=True))
        return [process for process in self.descendants if is_actor(process)]

    def wait(self) -> tuple[int, dict[str, Any], float | None]:
        """Exit code, the JSON it printed, and when its first actor was seen."""
        born_s = None
        while self.process.poll() is None:
            if self.look() and born_s is None:
                born_s = self.seconds
            if self.seconds > RUN_LIMIT_S:
                self.kill("everything")
            time.sleep(0.05)
        text = self.process.stdout.read() if self.process.stdout else ""
        return self.process.returncode, json.loads(text) if text.strip() else {}, born_s

    def kill_at(self, moment_s: float, target: str, rng: random.Random) -> bool:
        """Kill `target` at a moment, or as soon as there is such a process; False if the run ended before."""
        while self.process.poll() is None:
            actors = self.look()
            if self.seconds >= moment_s and (actors or target != "actor"):
                self.kill(target, rng.choice(actors) if target == "actor" else None)
                return True
            time.sleep(0.02)
        return False

    def kill(self, target: str, actor: psutil.Process | None = None) -> None:
        """SIGKILL; of everything the driver goes first, so that nobody can tidy up."""
        self.look()
        victims = {"driver": [self.driver], "actor": [actor], "everything": [self.driver, *self.descendants]}[target]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()  # psutil compares start times: a reused pid is never hit
        if target != "actor":
            self.process.wait()

    def errors(self) -> str:
        """What it wrote to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().strip()

    def living_actors(self) -> int:
        """How many actors live on after ACTORS_GONE_WITHIN_S."""
        _, alive = psutil.wait_procs([p for p in self.descendants if is_actor(p)], timeout=ACTORS_GONE_WITHIN_S)
        return len(alive)


def strays(runs: list[Run]) -> list[str]:
    """Descendants of ended runs that live on after ALL_GONE_WITHIN_S; they are ended."""
    _, alive = psutil.wait_procs([p for run in runs for p in run.descendants], timeout=ALL_GONE_WITHIN_S)
    names = []
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            names.append(f"outlived its run: {' '.join(process.cmdline())[:200]} ({process.status()})")
            process.kill()
    return names


def is_actor(process: psutil.Process) -> bool:
    """Whether it is a living search actor."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:1][0].startswith(ACTOR_TITLE)
    except (psutil.Error, IndexError):
        return False
