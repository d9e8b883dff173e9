"""Progress of a training in the terminal."""

from __future__ import annotations

from cluster.program.console import tell
from cluster.program.progress import ProgressView

from .resume import EpochReport


class TrainingView(ProgressView):
    """Shows each epoch's losses and macro-F1, and the ETA; of all `epochs`, `done_before` ran in an earlier call."""

    def __init__(self, epochs: int, done_before: int, *, quiet: bool):
        super().__init__("training", epochs, done_before, words="", quiet=quiet)
        if done_before and not quiet:
            tell(f"training resumes after epoch {done_before}")

    def report(self, report: EpochReport) -> None:
        """Show an epoch, if a line is due; the last one always."""
        done = report.epoch - self._before
        words = f"loss {report.loss:.4f}  dev loss {report.dev_loss:.4f}  macro-F1 {report.macro_f1:.3f}"
        self.show(done, f"{words}  ETA {self.eta(done)}", at_once=report.epoch == self._total)
