"""Lays out the accuracy-against-depth chart in pixels; the template draws it as SVG.

There is no plotting library, as a bundled one would weigh megabytes and would not follow the page's colours and text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..bench.figures import OracleFigures, SystemFigures

COLOURS = 6
"""Classes c1 to c6 of the style sheet; c0 is for full depth only."""
SHAPES = ("circle", "square", "triangle", "diamond", "wedge")
"""Their number and COLOURS have no common factor, so that thirty systems look different."""
MOST_TICKS = 6
ROUGHLY_SAME_PX = 5.0
ASIDE_PX = 8.0
MOST_ASIDE_PX = 12.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from data to pixels; `step` is the distance of ticks, in data units."""

    low: float
    high: float
    start_px: float
    end_px: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float], start_px: float, end_px: float) -> Scale:
        """An axis around all values, with small margins; it starts and ends on ticks, and not below 0 without need."""
        low, high = min(values), max(values)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        step = nice_step((high - low + 2 * margin) / MOST_TICKS)
        first, last = math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step
        return cls(max(first, 0.0) if low >= 0 else first, last, start_px, end_px, step)

    def __call__(self, value: float) -> float:
        """Pixel of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start_px + share * (self.end_px - self.start_px), 1)

    @property
    def ticks(self) -> list[float]:
        """Values that carry a label."""
        count = round((self.high - self.low) / self.step)
        return [self.low + index * self.step for index in range(count + 1)]


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least` > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Mark:
    """One point in pixels, and its text for a tooltip or screen reader."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """One system's marks.

    Attributes:
        mark: accuracy at mean depth.
        bar: upper and lower end of the 95 % interval, in pixels.
        sweep: other settings, in order of depth.
        placebo: the oracle's control.
    """

    name: str
    colour: str
    shape: str
    mark: Mark
    bar: tuple[float, float]
    sweep: tuple[Mark, ...]
    placebo: Mark | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of `width` × `height` px: axes, series, and lines at the accuracy of full depth and of guessing."""

    width: int
    height: int
    x: Scale
    y: Scale
    series: tuple[Series, ...]
    full_y: float | None
    chance_y: float | None


def depth_chart(systems: Sequence[SystemFigures], chance: float | None, width: int, height: int) -> Chart | None:
    """Lay out all drawn systems in `width` × `height` px; None if there are none.

    A system's place in the list decides its colour and shape. `chance` is the accuracy of guessing.
    """
    drawn = [(index, system) for index, system in enumerate(systems) if is_drawn(system)]
    if not drawn:
        return None
    shares = [chance, *(share for _, system in drawn for share in _accuracies(system))]
    y = Scale.around([share for share in shares if share is not None], height - 44.0, 12.0)
    depths = [depth for _, system in drawn for depth in (system.mean_depth, *(p.mean_depth for p in system.points))]
    x = Scale.around([depth for depth in depths if depth is not None], 48.0, width - 16.0)
    places = _side_by_side([x(system.mean_depth or 0.0) for _, system in drawn])
    series = tuple(_series(index, system, place, x, y) for (index, system), place in zip(drawn, places, strict=True))
    full_y = next((entry.mark.y for entry in series if entry.name == "full"), None)
    return Chart(width, height, x, y, series, full_y, chance_y=None if chance is None else y(chance))


def is_drawn(system: SystemFigures) -> bool:
    """Whether a system is in the chart: it was not skipped, and an oracle has its placebo."""
    return system.skipped is None and not (isinstance(system, OracleFigures) and system.placebo_accuracy is None)


def look(index: int, name: str) -> tuple[str, str]:
    """Colour class and shape of a system, by its place in the list."""
    return ("c0" if name == "full" else f"c{1 + index % COLOURS}"), SHAPES[index % len(SHAPES)]


def _accuracies(system: SystemFigures) -> list[float | None]:
    """All values of a system on the vertical axis."""
    placebo = system.placebo_accuracy if isinstance(system, OracleFigures) else None
    return [system.accuracy, *(system.accuracy_ci95 or ()), *(point.accuracy for point in system.points), placebo]


def _series(index: int, system: SystemFigures, place: float, x: Scale, y: Scale) -> Series:
    assert system.accuracy is not None and system.accuracy_ci95 is not None  # noqa: PT018  not skipped
    name, accuracy, (low, high) = system.name, system.accuracy, system.accuracy_ci95
    sweep = tuple(
        Mark(
            x(point.mean_depth),
            y(point.accuracy),
            f"{name}, {point.setting}: {point.accuracy:.1%} at depth {point.mean_depth:.2f}",
        )
        for point in sorted(system.points, key=lambda point: point.mean_depth)
    )
    placebo = None
    if isinstance(system, OracleFigures) and (value := system.placebo_accuracy) is not None:
        placebo = Mark(place, y(value), f"placebo of the oracle: {value:.1%}")
    text = f"{name}: {accuracy:.1%}, 95% interval {low:.1%} to {high:.1%}, depth {system.mean_depth:.2f}"
    mark = Mark(place, y(accuracy), text)
    return Series(name, *look(index, name), mark, (y(high), y(low)), sweep, placebo)


def _side_by_side(pixels: Sequence[float]) -> list[float]:
    """Spread marks of roughly the same depth, so that no bar hides another."""
    order = sorted(range(len(pixels)), key=lambda index: pixels[index])
    clusters: list[list[int]] = []
    for index in order:
        if clusters and pixels[index] - pixels[clusters[-1][-1]] < ROUGHLY_SAME_PX:
            clusters[-1].append(index)
        else:
            clusters.append([index])
    places = list(pixels)
    for cluster in clusters:
        middle, last = sum(pixels[index] for index in cluster) / len(cluster), len(cluster) - 1
        apart = min(ASIDE_PX, 2 * MOST_ASIDE_PX / max(last, 1))
        for rank, index in enumerate(cluster):
            places[index] = round(middle + (rank - last / 2) * apart, 1)
    return places
