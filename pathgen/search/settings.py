"""Settings of a search: budgets, caps, and the constants of the tree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from cluster.program.options import option

from ..paths.cost import CostModel
from ..paths.layer_path import LayerPath

StopRule = Literal["budget", "published"]

ROUNDING = 1e-9
"""Slack for sums of measured costs and for powers, so that a bound does not depend on the last bit."""
EXTRA_DEPTH = 4
"""Layer executions that a path may have beyond the full path, unless `max_depth` is set."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of a search. Only `simulations` and `layer_budget` may rise when a search is extended.

    Attributes:
        simulations: walks through the tree; the full path is always evaluated and does not count.
        layer_budget: layer executions of all evaluated paths together, the full path included; None: no limit.
        max_depth: layer executions of one path; None: `num_layers + EXTRA_DEPTH`. If the cost is not layers, a path
            may cost as much as `max_depth` average layers.
        max_edits: actions of one path that are not EXECUTE.
        stop: `budget`, or `published`, which also stops early, as the published search does.
        exploration: c of `PathTree.score`, in units of reward.
        widening_k: k of ⌈k·N^α⌉, the number of moves that a node visited N times considers.
        widening_alpha: α of the same, 0 to 1.
        length_weight: λ, the reward that the full path loses for its cost.

    Raises:
        ValueError: a field is out of bounds; the message names field, bound and value.
    """

    simulations: Annotated[int, option("Simulations per question.", min=1)] = 50
    layer_budget: Annotated[int | None, option("Layer executions per question.", min=1)] = None
    max_depth: Annotated[
        int | None, option(f"Layer executions of one path [default: layers + {EXTRA_DEPTH}].", min=1)
    ] = None
    max_edits: Annotated[int, option("Skips and repeats of one path.", min=1)] = 8
    parallel_leaves: Annotated[int, option("Paths a search asks at a time.", min=1)] = 4
    stop: Annotated[StopRule, option("When a search stops.")] = "budget"
    exploration: float = 0.02
    widening_k: float = 2.0
    widening_alpha: float = 0.5
    length_weight: float = 0.25

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = dict.fromkeys(self.__slots__, (0, math.inf))
        bounds |= dict.fromkeys(("layer_budget", "max_depth", "parallel_leaves"), (1, math.inf))
        bounds["widening_alpha"] = (0, 1)
        del bounds["stop"]
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                wanted = f"between {low} and {high}" if math.isfinite(high) else f"a finite number >= {low}"
                raise ValueError(f"{name} must be {wanted}; got {value}")
        if self.stop not in ("budget", "published"):
            raise ValueError(f"stop must be budget or published; got {self.stop!r}")

    def depth_cap(self, num_layers: int) -> int:
        """`max_depth` for a model of `num_layers`; ValueError if it is below the full path's depth."""
        cap = num_layers + EXTRA_DEPTH if self.max_depth is None else self.max_depth
        if cap < num_layers:
            raise ValueError(f"max_depth must be at least {num_layers}, the depth of the full path; got {cap}")
        return cap

    def cost_cap(self, cost: CostModel, num_layers: int) -> float:
        """Largest cost of a path: `depth_cap` average layers, with room for rounding; raises as `depth_cap`."""
        return cost.cost(LayerPath.full(num_layers)) * self.depth_cap(num_layers) / num_layers + ROUNDING

    def check_budget(self, num_layers: int) -> None:
        """Raise ValueError unless the full path of a model of `num_layers` fits `layer_budget`."""
        if self.layer_budget is not None and self.layer_budget < num_layers:
            raise ValueError(f"layer_budget must be at least {num_layers}, the full path's; got {self.layer_budget}")
