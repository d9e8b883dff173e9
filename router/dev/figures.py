"""How right, and how deep, the routed model is on development questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.program.plain import SPLICED


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedFigures:
    """The routed model beside full depth and one path for all, on the same questions.

    Attributes:
        off_full_share: share of questions whose path is not the full one.
        off_common_share: share of questions off the router's most common path.
        delta_vs_full: accuracy gained over full depth, with its bootstrap interval `delta_ci95`.
        mean_depth: layer executions per forward pass.
    """

    dev_questions: int
    off_full_share: float
    off_common_share: float
    routed_accuracy: float
    full_accuracy: float
    static_accuracy: float
    delta_vs_full: float
    delta_ci95: tuple[float, float]
    mean_depth: float


@dataclass(frozen=True, slots=True)
class FolderFigures:
    """Of one folder's questions; `own_static_accuracy` is of the best path for them alone, None if not looked for."""

    folder: str
    routed: RoutedFigures = field(metadata=SPLICED)
    own_static_accuracy: float | None


@dataclass(frozen=True, slots=True)
class DevFigures:
    """Of all development questions, and of each folder's."""

    routed: RoutedFigures = field(metadata=SPLICED)
    per_folder: tuple[FolderFigures, ...]
