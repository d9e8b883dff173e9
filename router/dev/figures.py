"""Accuracy and depth of the routed model on development questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.program.json_codec import SPLICED


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedFigures:
    """The routed model, full depth and one path for all, on the same questions.

    Attributes:
        off_full_share: as in `PathShares`, with `off_common_share` and `mean_depth`.
        delta_vs_full: accuracy gained over full depth, with its interval `delta_ci95`.
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
    """Figures of one folder; `own_static_accuracy` is of the best path for it alone, None if not searched for."""

    folder: str
    routed: RoutedFigures = field(metadata=SPLICED)
    own_static_accuracy: float | None


@dataclass(frozen=True, slots=True)
class DevFigures:
    """Figures of all development questions, and of each folder."""

    routed: RoutedFigures = field(metadata=SPLICED)
    per_folder: tuple[FolderFigures, ...]
