"""The accuracy-against-depth chart: where every mark stands, in pixels. The template draws them as SVG.

Drawn by hand rather than by a plotting library: a few hundred elements that follow the page's colours, scale with
its text and can be focused, where a bundled library would weigh megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..bench.figures import OracleFigures, SystemFigures

COLOURS = 6
"""Of the style sheet, c1 to c6; full depth alone has c0."""
SHAPES = ("circle", "square", "triangle", "diamond", "wedge")
"""One more or less than a multiple of the colours, so that thirty systems look different."""
MOST_TICKS = 6
ROUGHLY_SAME_PX = 5.0
ASIDE_PX = 8.0
MOST_ASIDE_PX = 12.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from data to pixels.

    Attributes:
        low, high: ends of the axis, in data units.
        start_px, end_px: where they lie.
        step: between ticks, in data units.
    """

    low: float
    high: float
    start_px: float
    end_px: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float], start_px: float, end_px: float) -> Scale:
        """An axis that holds all values, with a little air, and ends on ticks of 1, 2 or 5 times a power of ten.

        Depths and accuracies are never below 0, and no axis of such values begins there.
        """
        low, high = min(values), max(values)
        air = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        step = nice_step((high - low + 2 * air) / MOST_TICKS)
        begin = math.floor((low - air) / step) * step
        return cls(
            max(begin, 0.0) if low >= 0 else begin, math.ceil((high + air) / step) * step, start_px, end_px, step
        )

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
    """One point: its pixels and what a pointer or a screen reader is told."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """One system's marks.

    Attributes:
        name: of the system.
        colour: class of the style sheet.
        shape: one of SHAPES.
        mark: accuracy at mean depth.
        bar: pixels of the 95 % interval's upper and lower end.
        sweep: its other settings, in order of depth.
        placebo: where the oracle's control stands, or None.
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
    """A chart of `width` × `height` px: axes, series, and the line of full depth's accuracy."""

    width: int
    height: int
    x: Scale
    y: Scale
    series: tuple[Series, ...]
    full_y: float | None
    chance_y: float | None


def depth_chart(systems: Sequence[SystemFigures], chance: float | None, width: int, height: int) -> Chart | None:
    """Lay out the systems that have figures; an oracle without its placebo is left out.

    Args:
        systems: of the bench; their place in the list decides colour and shape.
        chance: accuracy of guessing, in [0, 1], or None.
        width: px of the whole chart.
        height: px of the whole chart.

    Returns:
        None if no system has both accuracy and depth.
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
    full = next((system.accuracy for _, system in drawn if system.name == "full"), None)
    return Chart(
        width,
        height,
        x,
        y,
        series,
        full_y=None if full is None else y(full),
        chance_y=None if chance is None else y(chance),
    )


def is_drawn(system: SystemFigures) -> bool:
    """Whether a system has a place in the chart: it was run, and has its placebo if it is the oracle."""
    return system.skipped is None and not (isinstance(system, OracleFigures) and system.placebo_accuracy is None)


def look(index: int, name: str) -> tuple[str, str]:
    """Colour class and shape of the system of that name at a place in the list."""
    return ("c0" if name == "full" else f"c{1 + index % COLOURS}"), SHAPES[index % len(SHAPES)]


def _accuracies(system: SystemFigures) -> list[float | None]:
    """Everything of a system that the vertical axis has to hold."""
    placebo = system.placebo_accuracy if isinstance(system, OracleFigures) else None
    return [system.accuracy, *(system.accuracy_ci95 or ()), *(point.accuracy for point in system.points), placebo]


def _series(index: int, system: SystemFigures, place: float, x: Scale, y: Scale) -> Series:
    assert system.accuracy is not None and system.accuracy_ci95 is not None  # noqa: PT018  the system was run
    name, accuracy, (low, high) = system.name, system.accuracy, system.accuracy_ci95
    told = f"{name}: {accuracy:.1%}, 95% interval {low:.1%} to {high:.1%}"
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
    mark = Mark(place, y(accuracy), f"{told}, depth {system.mean_depth:.2f}")
    return Series(name, *look(index, name), mark, (y(high), y(low)), sweep, placebo)


def _side_by_side(pixels: Sequence[float]) -> list[float]:
    """Spread marks of roughly the same depth around it, a little, so that no bar hides another."""
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
