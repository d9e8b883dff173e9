"""Formats figures for a terminal: percents, points, intervals, counts, tables."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table


def percent(share: float) -> str:
    """A share in percent, without the % sign."""
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def interval(ends: tuple[float, float], form: Callable[[float], str]) -> str:
    """An interval in brackets."""
    low, high = map(form, ends)
    return f"[{low}, {high}]"


def count_text(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('h') else 's'}"


def figure_table(*names: str, no_wrap: bool = False) -> Table:
    """A table without lines; the first column is aligned left, the others right."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", no_wrap=no_wrap)
    return table
