"""Progress for people: a bar on a terminal, else a line every 30 seconds, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 30.0


class ProgressView:
    """Shows how far a run is, its rate and ETA, and what it has found.

    Args:
        what: what is counted, for example `searching`.
        total: questions of this run, those done before included.
        done_before: of these, done before this call.
        num_layers: of the model, for layers saved.
        quiet: show nothing.
    """

    def __init__(self, what: str, total: int, done_before: int, num_layers: int, *, quiet: bool):
        self._what = what
        self._total, self._before, self._num_layers = total, done_before, num_layers
        self._quiet = quiet
        self._told_at = time.monotonic()
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[found]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(what, total=total, completed=done_before, found="starting actors")

    def __enter__(self) -> ProgressView:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, failed: int, rate: float, counters: Mapping[str, float]) -> None:
        """Show the state.

        Args:
            done: questions done in this call.
            failed: of these.
            rate: questions per second.
            counters: as `Searcher.counters`.
        """
        if self._quiet:
            return
        found = self._found(done, failed, rate, counters)
        if self._bar:
            self._bar.update(self._task, completed=self._before + done, found=found)
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{self._what} {self._before + done}/{self._total}  {found}", file=sys.stderr, flush=True)

    def _found(self, done: int, failed: int, rate: float, counters: Mapping[str, float]) -> str:
        if not done:
            return "working" if any(counters.values()) else "starting actors"
        parts = [f"{rate:.2f} q/s" if rate >= 0.1 else f"{60 * rate:.1f} q/min"]
        left = self._total - self._before - done
        if rate > 0:
            parts.append(f"ETA {_clock(left / rate)}")
        if searched := counters.get("searched", 0):
            solved = counters.get("solved", 0)
            parts.append(f"solved {solved / searched:.0%}")
            if solved:
                parts.append(f"layers saved {self._num_layers - counters['depth_solved'] / solved:.1f}")
        if failed:
            parts.append(f"failed {failed}")
        return "  ".join(parts)


@contextmanager
def counted(what: str, total: int, num_layers: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` are done, which it is told, how fast, and how long the rest may take.

    Args:
        what: is done to them.
        total: of them.
        num_layers: of the model.
        quiet: show nothing.
    """
    started = time.monotonic()
    with ProgressView(what, total, 0, num_layers, quiet=quiet) as view:
        view.update(0, 0, 0.0, {"total": total})
        yield lambda done: view.update(done, 0, done / max(time.monotonic() - started, 1e-9), {})


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
