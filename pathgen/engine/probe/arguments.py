"""Where the rows of a batch lie in the arguments of a layer: found by calls with two and three rows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

RowAxis = tuple[int, int] | None
"""(axis, entries of one row next to each other); None: the same for all rows."""
RowAxes = dict[str, RowAxis]
"""Of the tensors that break the rule of `take_rows`, by their place in (args, kwargs), as `1.position_ids`."""


def find_row_axes(two: Any, three: Any, place: str = "") -> RowAxes:
    """The exceptions to the rule that rows lie on the first of two or more axes.

    Args:
        two: (args, kwargs) of a layer in a forward of two rows.
        three: the same in a forward of three rows, of as many tokens.
        place: of these values in (args, kwargs).

    Raises:
        ValueError: a tensor's shape does not follow the number of rows; the message has its place and shape.
    """
    if isinstance(two, Tensor):
        return _of_tensor(two, three, place)
    found: RowAxes = {}
    parts = two.items() if isinstance(two, dict) else enumerate(two) if isinstance(two, (tuple, list)) else ()
    for key, part in parts:
        found |= find_row_axes(part, three[key], f"{place}.{key}" if place else str(key))
    return found


def _of_tensor(two: Tensor, three: Tensor, place: str) -> RowAxes:
    if two.shape == three.shape:
        return {place: None} if two.dim() > 1 and two.shape[0] > 1 else {}
    axes = [axis for axis, (a, b) in enumerate(zip(two.shape, three.shape, strict=False)) if a != b]
    if two.dim() == three.dim() and len(axes) == 1:
        axis, size = axes[0], two.shape[axes[0]]
        if size % 2 == 0 and three.shape[axis] == size // 2 * 3:
            axis_is_usual = (axis, size) == (0, 2) and two.dim() > 1
            return {} if axis_is_usual else {place: (axis, size // 2)}
    raise ValueError(f"a layer argument of shape {tuple(two.shape)} has no row per question ({place})")
