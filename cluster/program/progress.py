"""Progress on stderr: a bar on a terminal, else a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .console import tell

LINE_EVERY_S = 30.0


class ProgressView:
    """Shows the number of items done, the rate, the ETA and results so far.

    Args:
        what: the work, for example `searching`.
        total: items, those done before included.
        done_before: items done before this call.
        words: shown next to the count until an item is done.
    """

    def __init__(
        self, what: str, total: int, done_before: int = 0, *, words: str = "starting actors", quiet: bool
    ) -> None:
        self._what, self._words, self._quiet = what, words, quiet
        self._total, self._before = total, done_before
        self._started = self._shown_at = time.monotonic()
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            name, results = TextColumn("{task.description}"), TextColumn("{task.fields[words]}")
            columns = (SpinnerColumn(), name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), results)
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(what, total=total, completed=done_before, words=words)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, words: str = "", *, at_once: bool = False) -> None:
        """Show the items done in this call, and words; without a terminal only if a line is due, or `at_once`."""
        if self._quiet:
            return
        if self._bar:
            self._bar.update(self._task, completed=self._before + done, words=words)
        elif at_once or time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            tell(f"{self._what} {self._before + done}/{self._total}  {words}".rstrip())

    def update(self, done: int, failed: int, rate: float, counters: Mapping[str, float]) -> None:
        """Show the state of a fleet: items done and failed in this call, items per second, and actors' counters.

        The counters of searches are shown: `searched`, `solved`, `layers_saved`.
        """
        if not done:
            self.show(done, "working" if any(counters.values()) else self._words)
            return
        parts = [f"{rate:.2f} q/s" if rate >= 0.1 else f"{60 * rate:.1f} q/min"]
        if rate > 0:
            parts.append(f"ETA {self.eta(done, rate)}")
        if searched := counters.get("searched", 0):
            solved = counters.get("solved", 0)
            parts.append(f"solved {solved / searched:.0%}")
            if solved:
                parts.append(f"layers saved {counters['layers_saved'] / solved:.1f}")
        if failed:
            parts.append(f"failed {failed}")
        self.show(done, "  ".join(parts))

    def eta(self, done: int, rate: float | None = None) -> str:
        """Time that the rest takes, as H:MM:SS, at a rate in items per second; None is the rate of this call so far."""
        seconds = (self._total - self._before - done) / (rate or self.rate(done))
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

    def rate(self, done: int) -> float:
        """Items per second of this call so far."""
        return done / max(time.monotonic() - self._started, 1e-9)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within a `with` block, hide the bar so that other lines can be printed."""
        if self._bar:
            self._bar.stop()
        yield
        if self._bar:
            self._bar.start()


@contextmanager
def counted(what: str, total: int, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """A view of work in this process; the arguments are those of `ProgressView`.

    Yields:
        A function to call with the number of items just done; a second argument of 0 means that they took no work, so
        they do not count in the rate.
    """
    done = worked = 0

    def on_done(more: int, work: int = 1) -> None:
        nonlocal done, worked
        done += more
        worked += more if work else 0
        view.update(done, 0, view.rate(worked), {})

    with ProgressView(what, total, words="working", quiet=quiet) as view:
        yield on_done
