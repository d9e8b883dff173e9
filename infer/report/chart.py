"""Lays out the accuracy-against-depth chart in pixels; the template draws it as SVG.

There is no plotting library, as a bundled one would weigh megabytes and would not follow the page's colours and text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..bench.figures import OracleFigures, SystemFigures

COLOURS = 6
"""Classes c1 to c6 of the style sheet; c0 is for full depth only."""
SHAPES = ("circle", "square", "triangle", "diamond", "wedge")
"""Their number and COLOURS have no common factor, so that thirty systems look different."""
MOST_TICKS = 6
MARK_PX = 14.0
"""Marks whose heights differ by less stand at least so far apart."""
BAR_PX = 6.0
"""Marks whose bars share some heights stand at least so far apart, so that no bar hides another."""
ROUNDS = 200
"""Most times that all pairs of marks are pushed apart."""


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
    marks = [(x(system.mean_depth or 0.0), y(system.accuracy or 0.0), *_bar(system, y)) for _, system in drawn]
    controls = {row: y(share) for row, (_, system) in enumerate(drawn) if (share := _placebo(system)) is not None}
    places = side_by_side([*marks, *((marks[row][0], height, height, height) for row, height in controls.items())])
    aside = dict(zip(controls, places[len(marks) :], strict=True))
    series = tuple(
        _series(index, system, places[row], aside.get(row), x, y) for row, (index, system) in enumerate(drawn)
    )
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
    points = (point.accuracy for point in system.points)
    return [system.accuracy, *(system.accuracy_ci95 or ()), *points, _placebo(system)]


def _bar(system: SystemFigures, y: Scale) -> tuple[float, float]:
    """Upper and lower end of the bar of a drawn system, in pixels."""
    low, high = system.accuracy_ci95 or (0.0, 0.0)
    return y(high), y(low)


def _placebo(system: SystemFigures) -> float | None:
    return system.placebo_accuracy if isinstance(system, OracleFigures) else None


def _series(index: int, system: SystemFigures, place: float, aside: float | None, x: Scale, y: Scale) -> Series:
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
    if aside is not None and (value := _placebo(system)) is not None:
        placebo = Mark(aside, y(value), f"placebo of the oracle: {value:.1%}")
    text = f"{name}: {accuracy:.1%}, 95% interval {low:.1%} to {high:.1%}, depth {system.mean_depth:.2f}"
    mark = Mark(place, y(accuracy), text)
    return Series(name, *look(index, name), mark, _bar(system, y), sweep, placebo)


def side_by_side(marks: Sequence[tuple[float, float, float, float]]) -> list[float]:
    """Horizontal places for marks at x and y px with bars from top to bottom, in px: (x, y, top, bottom).

    Pairs that would hide each other are pushed apart, in equal parts.
    """
    places = [x for x, *_ in marks]
    order = sorted(range(len(marks)), key=lambda index: places[index])
    pairs = [
        (left, right, apart)
        for left, right in combinations(order, 2)
        if (apart := _least_apart(marks[left][1:], marks[right][1:]))
    ]
    for _ in range(ROUNDS):
        close = [pair for pair in pairs if places[pair[1]] - places[pair[0]] < pair[2] - 0.05]
        for left, right, apart in close:
            lack = apart - (places[right] - places[left])
            places[left] -= max(lack, 0.0) / 2
            places[right] += max(lack, 0.0) / 2
        if not close:
            break
    return [round(place, 1) for place in places]


def _least_apart(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Least horizontal distance of two marks at heights (y, top, bottom)."""
    if abs(one[0] - other[0]) < MARK_PX:
        return MARK_PX
    return BAR_PX if max(one[1], other[1]) < min(one[2], other[2]) + MARK_PX / 2 else 0.0
