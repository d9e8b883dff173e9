"""How one question is searched: budgets, caps, and the constants of the tree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from cluster.program.options import option

from ..paths.cost import CostModel
from ..paths.layer_path import LayerPath

StopRule = Literal["budget", "published"]

ROUNDING = 1e-9
EXTRA_DEPTH = 4
"""Layer executions that a path may spend beyond the full path, unless `max_depth` says otherwise."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How one question is searched. Only `simulations` and `layer_budget` may rise when a search is extended.

    Attributes:
        simulations: walks through the tree, beside the full path, which is always evaluated.
        layer_budget: layer executions of all evaluated paths together, the full path's included; None: no
            limit.
        max_depth: layer executions of one path; None: `num_layers + EXTRA_DEPTH`. Where another cost than
            layers is counted, a path may cost as much as `max_depth` average layers.
        max_edits: actions of one path that are not EXECUTE.
        parallel_leaves: paths asked at a time.
        stop: `budget`; or `published`, which also stops early, as the published search does.
        exploration: c of `PathTree.score`, in units of reward.
        widening_k: a node visited N times considers ⌈k·N^α⌉ moves; this is k.
        widening_alpha: and this α, 0 to 1.
        length_weight: λ, the reward that a path as dear as the full one gives up.

    Raises:
        ValueError: names the field, its bound and the value.
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
        """Check every field against its bounds."""
        bounds: dict[str, tuple[float, float]] = {
            "simulations": (0, math.inf),
            "layer_budget": (1, math.inf),
            "max_depth": (1, math.inf),
            "max_edits": (0, math.inf),
            "parallel_leaves": (1, math.inf),
            "exploration": (0, math.inf),
            "widening_k": (0, math.inf),
            "widening_alpha": (0, 1),
            "length_weight": (0, math.inf),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                wanted = f"between {low} and {high}" if math.isfinite(high) else f"a finite number >= {low}"
                raise ValueError(f"{name} must be {wanted}; got {value}")
        if self.stop not in ("budget", "published"):
            raise ValueError(f"stop must be budget or published; got {self.stop!r}")

    def depth_cap(self, num_layers: int) -> int:
        """`max_depth` on a model of `num_layers`.

        Raises:
            ValueError: if `max_depth` is below the full path, which every search evaluates.
        """
        cap = num_layers + EXTRA_DEPTH if self.max_depth is None else self.max_depth
        if cap < num_layers:
            raise ValueError(f"max_depth must be at least {num_layers}, the depth of the full path; got {cap}")
        return cap

    def cost_cap(self, cost: CostModel, num_layers: int) -> float:
        """What a path may cost: as much as `depth_cap` average layers, with room for rounding.

        Raises:
            ValueError: as `depth_cap` does.
        """
        return cost.cost(LayerPath.full(num_layers)) * self.depth_cap(num_layers) / num_layers + ROUNDING

    def check_budget(self, num_layers: int) -> None:
        """See that the full path of a model of `num_layers` fits `layer_budget`.

        Raises:
            ValueError: if it does not.
        """
        if self.layer_budget is not None and self.layer_budget < num_layers:
            raise ValueError(f"layer_budget must be at least {num_layers}, the full path's; got {self.layer_budget}")
