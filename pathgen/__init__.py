"""Path generation: a frozen model, searched for the layer paths that answer each question best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .paths.layer_path import LayerAction, LayerPath

if TYPE_CHECKING:
    from .engine.path_model import PathModel
    from .engine.policies import Cascade, FixedPaths, LayerPolicy

__all__ = ["Cascade", "FixedPaths", "LayerAction", "LayerPath", "LayerPolicy", "PathModel"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first used, so that commands answer at once."""
    if name in ("Cascade", "FixedPaths", "LayerPolicy", "PathModel"):
        from .engine import path_model as model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
