"""How many questions a finding needs, and what can be done with fewer."""

from __future__ import annotations

import shlex

from .figures import count_text

DIFFERING = 0.1
"""Typical share of questions on which just one of two good paths is right."""
ERRORS = 2.8
"""A gain of so many standard errors is shown in four of five cases: 1.96 for 95 %, 0.84 for a power of 80 %."""
LARGE, SMALL = 0.05, 0.02
"""Gains in accuracy that the hint speaks of."""


def questions_to_show(gain: float) -> int:
    """Questions on which a gain in accuracy shows, with a power of 80 % at 95 %: DIFFERING · (ERRORS / gain)²."""
    return round(DIFFERING * (ERRORS / gain) ** 2)


def few_questions(count: int, out: str) -> str | None:
    """What so many questions of the run in `out` are too few for, with a command that needs no more; None if enough."""
    if count >= questions_to_show(LARGE):
        return None
    large, small = (round(questions_to_show(gain), -2) for gain in (LARGE, SMALL))
    return (
        f"{count_text(count, 'question')} may be too few: a gain of {100 * LARGE:.0f} points takes about {large:,} to "
        f"show, {100 * SMALL:.0f} points about {small:,}. Without labels 64 are enough to find shallower paths that "
        f"answer alike:\n  pathgen static --target divergence --paths {shlex.quote(out)} --out static.json"
    )
