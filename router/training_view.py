"""Training's progress for people: a bar on a terminal, else a line every 30 seconds, always on stderr."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.console import tell
from pathgen.progress import LINE_EVERY_S

from .checkpoint import EpochReport


class TrainingView:
    """Shows each epoch's losses and macro-F1, and how long the rest may take.

    Args:
        epochs: of the whole training.
        done_before: of these, done before this call.
        quiet: show nothing.
    """

    def __init__(self, epochs: int, done_before: int, *, quiet: bool):
        self._epochs, self._before, self._quiet = epochs, done_before, quiet
        self._told_at = self._started = time.monotonic()
        self._bar: Progress | None = None
        if quiet:
            return
        if done_before:
            tell(f"training goes on after epoch {done_before}")
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[found]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("training", total=epochs, completed=done_before, found="")

    def __enter__(self) -> TrainingView:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, report: EpochReport) -> None:
        """Show an epoch; without a terminal at most one line every 30 seconds, and the last."""
        if self._quiet:
            return
        now = time.monotonic()
        left_s = (self._epochs - report.epoch) * (now - self._started) / (report.epoch - self._before)
        found = (
            f"loss {report.loss:.4f}  dev loss {report.dev_loss:.4f}  macro-F1 {report.macro_f1:.3f}  "
            f"ETA {timedelta(seconds=round(left_s))}"
        )
        if self._bar:
            self._bar.update(self._task, completed=report.epoch, found=found)
        elif now - self._told_at >= LINE_EVERY_S or report.epoch == self._epochs:
            self._told_at = now
            tell(f"training {report.epoch}/{self._epochs}  {found}")
