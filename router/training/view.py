"""Training's progress for people."""

from __future__ import annotations

import time

from cluster.program.console import tell
from pathgen.progress import ProgressBar, clock

from .resume import EpochReport


class TrainingView(ProgressBar):
    """Shows each epoch's losses and macro-F1, and how long the rest may take.

    Args:
        epochs: of the whole training.
        done_before: of these, done before this call.
        quiet: show nothing.
    """

    def __init__(self, epochs: int, done_before: int, *, quiet: bool):
        super().__init__("training", epochs, done_before, quiet=quiet)
        self._before, self._started = done_before, time.monotonic()
        if done_before and not quiet:
            tell(f"training goes on after epoch {done_before}")

    def update(self, report: EpochReport) -> None:
        """Show an epoch; the last one in any case."""
        left_s = (self._total - report.epoch) * (time.monotonic() - self._started) / (report.epoch - self._before)
        words = (
            f"loss {report.loss:.4f}  dev loss {report.dev_loss:.4f}  macro-F1 {report.macro_f1:.3f}  "
            f"ETA {clock(left_s)}"
        )
        self.show(report.epoch, words, at_once=report.epoch == self._total)
