"""The cascade of least depth that holds a stated risk on held-out questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pathgen.engine.policies import Cascade
from pathgen.paths.layer_path import LayerPath

from .dev_set import DevSet
from .risk import Outcome, RiskKind, StatedRisk
from .risk_control import Candidate, RiskFigures, hold_risk, losses_of

GAPS = tuple(float(gap) for gap in np.arange(12, -0.125, -0.125))
"""In nats, the safest first; fixed, so that they do not depend on the tested questions. At 0 no question falls back."""


@dataclass(frozen=True, slots=True, eq=False)
class CheapAnswers:
    """The answers along one path to N questions, against full depth's.

    Attributes:
        gaps: [N] how far the likeliest token after the prompt is ahead of the second one along the path, in nats.
        worse: [N] whether the answer differs, or, of the loss, is right at full depth alone.
        better: [N] of the loss, whether it is wrong at full depth alone.
    """

    path: LayerPath
    gaps: NDArray[np.float64]
    worse: NDArray[np.bool_]
    better: NDArray[np.bool_]

    @classmethod
    def of(cls, kind: RiskKind, dev: DevSet, path: LayerPath) -> CheapAnswers:
        """Run the questions along the path."""
        paths = [path] * len(dev.questions)
        return cls(path, dev.next_token_gaps(path), *losses_of(kind, dev, paths))

    def cascades(self) -> Iterator[Candidate[Cascade]]:
        """With a smaller gap each, so that fewer questions fall back."""
        for gap in GAPS:
            cascade, stands = Cascade(self.path, gap), self.gaps >= gap
            full = LayerPath.full(len(self.path))
            depth = np.where(stands, self.path.depth, cascade.depth(full)).mean()
            outcome = Outcome(int((self.worse & stands).sum()), int((self.better & stands).sum()), len(stands))
            yield Candidate(cascade, outcome, float(depth))


def hold_cascade(stated: StatedRisk, dev: DevSet, paths: Sequence[LayerPath]) -> tuple[Cascade | None, RiskFigures]:
    """The cascade of least mean depth among the safe ones of all paths; None for full depth.

    Each path has an equal share of the level (Bonferroni); within it gaps are tested in order, from the safest on
    (`hold_risk`). All are compared by their mean depth on these questions, fall-backs included; the risk holds
    whichever is taken.

    Args:
        stated: the risk.
        dev: questions on which nothing was chosen.
        paths: of one depth or more, all below full depth.
    """
    if not (dev.questions and paths):
        return hold_risk(stated, len(dev.questions), dev.num_layers, ())
    shared = StatedRisk(stated.kind, stated.stated, 1 - stated.alpha / len(paths))
    found = [
        hold_risk(shared, len(dev.questions), dev.num_layers, CheapAnswers.of(stated.kind, dev, path).cascades())
        for path in paths
    ]
    cascade, figures = min(found, key=lambda each: each[1].depth)
    if figures.depth >= dev.num_layers:  # the risk holds, and nothing is saved
        cascade, figures = None, replace(figures, observed=0.0, depth=float(dev.num_layers), p_value=None)
    return cascade, replace(figures, confidence=stated.confidence)
