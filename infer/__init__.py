"""Routed inference: a frozen model along the paths that a router chooses, and its benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .routed.routed_model import Completion, RoutedModel
    from .routed.scoring import Score

__all__ = ["Completion", "RoutedModel", "Score"]


def __getattr__(name: str) -> Any:
    """Import torch only on first use, so that commands start fast."""
    if name in __all__:
        from .routed import routed_model  # it has all of them

        return getattr(routed_model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
