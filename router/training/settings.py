"""Settings for training a router's heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import option

BATCH_SIZE = 32
"""Questions per step, in training and in evaluation."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings for training heads; the loss, γ and β are as in Dr.LLM.

    Attributes:
        warmup_share: share of all steps in which the rate rises linearly from 0; then it follows a cosine to 0.
        focal_gamma: γ of the focal loss.
        class_beta: β of the class weights.
        clip_norm: limit of the gradient's norm over all heads.
        patience: training stops after this many epochs without a lower development loss; None: never early.

    Raises:
        ValueError: a value is out of bounds; the message names the field and the bound.
    """

    epochs: Annotated[int, option("At most [default: 25; gates: 3].", min=1)] = 25
    batch_size: Annotated[int, option("For imitate: questions of one step.", min=1)] = BATCH_SIZE
    learning_rate: Annotated[float, option("For imitate: AdamW's highest.")] = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    focal_gamma: float = 2.0
    class_beta: float = 0.999
    clip_norm: float = 1.0
    patience: Annotated[
        int | None,
        option(
            "For imitate: epochs without a lower development loss before it stops; 0: never [default: 5].",
            reads=int,
            parse=lambda epochs: epochs or None,
            min=0,
        ),
    ] = 5
    seed: Annotated[int, option("Of first weights and order.", min=0)] = 0

    def __post_init__(self) -> None:
        bounds = {
            "at least 1": (("epochs", "batch_size", "patience"), lambda value: value >= 1),
            "above 0": (("learning_rate", "clip_norm"), lambda value: 0 < value < math.inf),
            "at least 0": (("weight_decay", "focal_gamma", "seed"), lambda value: 0 <= value < math.inf),
            "in [0, 1)": (("warmup_share", "class_beta"), lambda value: 0 <= value < 1),
        }
        for bound, (names, holds) in bounds.items():
            for name in names:
                value = getattr(self, name)
                if not (value is None and name == "patience") and not holds(value):
                    raise ValueError(f"{name} must be {bound}; got {value}")
