"""The cost of a path: weights of its layers, scaled so that the full path costs its number of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from .layer_path import LayerPath

CostName = Literal["layers", "flops", "latency"]


@dataclass(frozen=True, slots=True)
class CostModel:
    """The cost of running a path, in units of an average layer of this model.

    Raises:
        ValueError: the name is unknown, or the weights are empty, negative, not finite or not of mean 1, or those of
            skips are negative, not finite or of another number of layers.
    """

    name: CostName
    """The measure: layer executions, FLOPs or measured time."""
    weights: tuple[float, ...]
    """[num_layers] cost of one execution of each layer."""
    skips: tuple[float, ...] = ()
    """[num_layers] cost of what runs where a path skips each layer, its bridge; empty if nothing runs."""

    def __post_init__(self) -> None:
        if self.name not in get_args(CostName):
            raise ValueError(f"a cost is one of {', '.join(get_args(CostName))}; got {self.name!r}")
        if not self.weights:
            raise ValueError("a cost model needs at least one layer")
        _check_costs(self.weights)
        mean = math.fsum(self.weights) / len(self.weights)
        if not math.isclose(mean, 1.0, rel_tol=1e-6):
            raise ValueError(f"the cost weights of {len(self.weights)} layers must have mean 1; got {mean:g}")
        if self.skips:
            _check_costs(self.skips)
            if len(self.skips) != len(self.weights):
                raise ValueError(f"there are costs of {len(self.skips)} skips, and {len(self.weights)} layers")

    @classmethod
    def layers(cls, num_layers: int) -> CostModel:
        """Every execution costs 1, so the cost of a path is its depth."""
        return cls("layers", (1.0,) * num_layers)

    @classmethod
    def from_measures(cls, name: CostName, per_layer: Iterable[float], per_skip: Iterable[float] = ()) -> CostModel:
        """Scale one measure per layer, in any unit, to mean 1, and those of skips, in the same unit, with them.

        Raises:
            ValueError: there is no layer, a measure is negative or not finite, or all are zero.
        """
        measures = tuple(float(measure) for measure in per_layer)
        _check_costs(measures)
        total = math.fsum(measures)
        if measures and total == 0:
            raise ValueError(f"all {len(measures)} {name} measures are zero; at least one layer must cost something")
        scaled, skips = (
            tuple(measure * len(measures) / total for measure in part) for part in (measures, tuple(per_skip))
        )
        return cls(name, scaled, skips)

    def cost(self, path: LayerPath) -> float:
        """Σ action · weight over the layers that run, and Σ skips over the others.

        `fsum` rounds once, so layers of equal weight cost exactly the same in any order, and ties are exact.
        """
        skips = self.skips or (0.0,) * len(self.weights)
        return math.fsum(
            action * weight if action else skip for action, weight, skip in zip(path, self.weights, skips, strict=True)
        )


def _check_costs(costs: tuple[float, ...]) -> None:
    if bad := [cost for cost in costs if not (math.isfinite(cost) and cost >= 0)]:
        raise ValueError(f"a layer's cost is a finite number >= 0; got {bad[0]}")
