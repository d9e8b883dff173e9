"""Settings for training gates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from cluster.program.options import option

from ..net.pooling import Pooling


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Settings for training gates.

    Attributes:
        learning_rate: of the static gates g₀ at the first step; it falls to 0 along a half cosine, as the map's does.
        map_learning_rate: of the conditional part.
        map_decay: decoupled weight decay of the conditional part.
        pull: weight of Σ(g₀ − 1)², which holds the gates at the model as published.
        compute_penalty: weight of the mean of min(g, 1) over layers, which saves depth.
        rank: of the map from a prompt's states to a gate's shift; 0 trains static gates alone.
        allow_repeat: gates reach up to 2 rather than 1.
        pooling: what the conditional part reads of a prompt.

    Raises:
        ValueError: a value is out of bounds; the message names field and bound.
    """

    epochs: Annotated[int, option("Passes over the questions.")] = 3
    batch_questions: int = 8
    learning_rate: float = 0.02
    map_learning_rate: float = 1e-3
    map_decay: float = 1.0
    pull: float = 0.01
    compute_penalty: Annotated[
        float, option("For gates: weight of depth in the loss, in nats per share of layers.")
    ] = 0.0
    rank: Annotated[int, option("For gates: rank of the part that reads the question; 0: none.", min=0)] = 0
    allow_repeat: bool = True
    pooling: Pooling = field(default_factory=Pooling)
    seed: Annotated[int, option("Of the questions' order and the map's first weights.")] = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("epochs", "batch_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "map_learning_rate"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be above 0; got {getattr(self, name)}")
        for name in ("map_decay", "pull", "compute_penalty", "rank", "seed"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be 0 or more; got {getattr(self, name)}")

    @property
    def max_gate(self) -> float:
        """The largest gate; a gate of 2 stands for a layer that runs twice."""
        return 2.0 if self.allow_repeat else 1.0
