"""Progress for people: a bar on a terminal, else a line every 30 seconds, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 30.0


class ProgressBar:
    """How many of a total are done, and words beside it.

    Args:
        what: is done to them, for example `searching`.
        total: of them, those done before included.
        done: before.
        words: until the first `show`.
        quiet: show nothing.
    """

    def __init__(self, what: str, total: int, done: int = 0, words: str = "", *, quiet: bool):
        self._what, self._total, self._quiet = what, total, quiet
        self._told_at = time.monotonic()
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[words]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(what, total=total, completed=done, words=words)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, words: str = "", *, at_once: bool = False) -> None:
        """Show the state; without a terminal only if it is time for a line, or `at_once`."""
        if self._quiet:
            return
        if self._bar:
            self._bar.update(self._task, completed=done, words=words)
        elif at_once or time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{self._what} {done}/{self._total}  {words}".rstrip(), file=sys.stderr, flush=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For the body of a `with` the terminal is free for other lines."""
        if self._bar:
            self._bar.stop()
        yield
        if self._bar:
            self._bar.start()


class ProgressView(ProgressBar):
    """Shows how far a run is, its rate and ETA, and what it has found.

    Args:
        what: as `ProgressBar`.
        total: questions of this run, those done before included.
        done_before: of these, done before this call.
        quiet: show nothing.
    """

    def __init__(self, what: str, total: int, done_before: int = 0, *, quiet: bool):
        super().__init__(what, total, done_before, "starting actors", quiet=quiet)
        self._before = done_before

    def update(self, done: int, failed: int, rate: float, counters: Mapping[str, float]) -> None:
        """Show the state.

        Args:
            done: questions done in this call.
            failed: of these.
            rate: questions per second.
            counters: as `Searcher.counters`.
        """
        self.show(self._before + done, self._found(done, failed, rate, counters))

    def _found(self, done: int, failed: int, rate: float, counters: Mapping[str, float]) -> str:
        if not done:
            return "working" if any(counters.values()) else "starting actors"
        parts = [f"{rate:.2f} q/s" if rate >= 0.1 else f"{60 * rate:.1f} q/min"]
        left = self._total - self._before - done
        if rate > 0:
            parts.append(f"ETA {clock(left / rate)}")
        if searched := counters.get("searched", 0):
            solved = counters.get("solved", 0)
            parts.append(f"solved {solved / searched:.0%}")
            if solved:
                parts.append(f"layers saved {counters['layers_saved'] / solved:.1f}")
        if failed:
            parts.append(f"failed {failed}")
        return "  ".join(parts)


@contextmanager
def counted(what: str, total: int, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show how many of `total` are done, how fast, and how long the rest may take.

    Args:
        what: is done to them.
        total: of them.
        quiet: show nothing.

    Yields:
        To be called with how many more are done, and with 0 beside it where they took no work: such say nothing of the
        rate.
    """
    done = worked = 0
    started = time.monotonic()

    def on_done(more: int, work: int = 1) -> None:
        nonlocal done, worked
        done += more
        worked += more if work else 0
        view.update(done, 0, worked / max(time.monotonic() - started, 1e-9), {})

    with ProgressView(what, total, quiet=quiet) as view:
        view.update(0, 0, 0.0, {"total": total})
        yield on_done


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
