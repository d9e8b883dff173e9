"""The search for one question's layer paths: UCT over a graph of paths, with ask and tell.

It needs no model: `PathSearch.ask` returns paths, the caller evaluates them in any order and on any machine, and
`PathSearch.tell` takes each result. The same seed and the same results give the same tree.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..paths.cost import CostModel
from ..paths.layer_path import LayerPath
from ..paths.records import Evaluation, Status, StopReason
from ..paths.reward import path_reward
from .prior import move_weights
from .settings import SearchSettings
from .tree import PathTree, Walk

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PathSearch", "SearchSettings"]

EARLY_SAVED_LAYERS = 2
"""Layers that a correct path must save for the published rule to stop."""


@dataclass(slots=True)
class _Asked:
    """A pending path: its number, the walk that led to it, and its result."""

    simulation: int
    walk: Walk
    evaluation: Evaluation | None = None


class PathSearch:
    """The search of one question. Results may come in any order: they enter the tree in the order asked.

    Attributes:
        tree: nodes and edges.
        evaluations: the results, in the order asked, with `simulation` filled in.
        simulations: finished walks, also those that end at a path already evaluated; the full path does not count.
        layer_executions: Σ depth of the evaluated paths, the full path included.
        stop_reason: None while the search continues.
        influence: of each layer and pair on this question, as `move_weights` takes it. If it is set before the full
            path's result and that is right, it orders the moves; else all moves weigh the same.

    Args:
        cost: cost of paths, for the reward, the depth cap and the choice of the best path.
        rng: the only source of randomness; it shuffles each node's moves.
        relative_margin: quality uses the margin relative to the full path's, as generation needs.
        pinned: layers that no move changes.

    Raises:
        ValueError: the cost model has another number of layers, or a budget or cap is below the full path.
    """

    def __init__(
        self,
        num_layers: int,
        settings: SearchSettings,
        cost: CostModel,
        rng: np.random.Generator,
        relative_margin: bool = False,
        pinned: Collection[int] = (),
    ) -> None:
        if len(cost.weights) != num_layers:
            raise ValueError(f"the cost model is of {len(cost.weights)} layers, the search of {num_layers}")
        settings.check_budget(num_layers)
        self.tree = PathTree(num_layers, settings, cost, rng, pinned)
        self.evaluations: list[Evaluation] = []
        self.simulations = self.layer_executions = 0
        self.stop_reason: StopReason | None = None
        self._settings, self._cost = settings, cost
        self._relative_margin = relative_margin
        self.influence: tuple[float, ...] | None = None
        self._asked: dict[LayerPath, _Asked] = {}
        self._layers_spent = False

    def ask(self) -> list[LayerPath]:
        """New paths to evaluate, at most `parallel_leaves`; first the full path alone.

        Empty while results of earlier paths are missing, and once `stop_reason` is set.
        """
        if self._asked or self.stop_reason:
            return []
        if not self.evaluations:
            self._send_out(self.tree.full, [])
            return [self.tree.full]
        while len(self._asked) < self._settings.parallel_leaves and self._walk():
            pass
        if not self._asked:  # only pending paths can block a walk, so a budget is spent
            self.stop_reason = "budget"
        return list(self._asked)

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Take the result of an asked path; a result without a finite margin counts as wrong.

        Once all asked paths have results, the results enter the tree in the order asked.

        Returns:
            Whether the result was used; a repeated or unknown one is ignored.

        Raises:
            ValueError: the evaluation is of another path.
        """
        if evaluation.path != path:
            raise ValueError(f"the evaluation for path {path} is of path {evaluation.path}")
        asked = self._asked.get(path)
        if asked is None or asked.evaluation is not None:
            return False
        if evaluation.margin is None or not math.isfinite(evaluation.margin):
            evaluation = replace(evaluation, correct=False, margin=None)
        asked.evaluation = replace(evaluation, simulation=asked.simulation)
        if all(waiting.evaluation is not None for waiting in self._asked.values()):
            self._settle()
            self._check_stop()
        return True

    def finish(self, reason: StopReason) -> None:
        """Stop for a limit outside the search, for example seconds.

        Results so far are kept. Paths without a result are withdrawn, and their later results are ignored. A search
        that has already stopped keeps its reason.
        """
        if self.stop_reason is None:
            self._settle()
            self.stop_reason = reason

    @property
    def base(self) -> Evaluation | None:
        """The full path's evaluation; None before its result."""
        return self.evaluations[0] if self.evaluations else None

    def best(self) -> Evaluation | None:
        """The cheapest correct evaluation, ties by largest margin, then by path; None without a correct one."""
        right = [evaluation for evaluation in self.evaluations if evaluation.correct]
        return min(right, key=lambda e: (self._cost.cost(e.path), -(e.margin or 0.0), e.path), default=None)

    def status(self) -> Status:
        """Status of the evaluations so far; `failed` if the full path gave no finite margin."""
        if self.base is None:
            return "searching"
        if self.base.margin is None:
            return "failed"
        if self.base.correct:
            return "kept"
        return "unsolved" if self.best() is None else "improved"

    def reward(self, evaluation: Evaluation) -> float:
        """`path_reward`; with `relative_margin`, z is relative to the full path's margin, if there is one."""
        base_margin = self.base.margin if self.base and self._relative_margin else None
        return path_reward(evaluation, base_margin or 0.0, self._cost, self._settings.length_weight)

    def _walk(self) -> bool:
        """Walk once from the full path to a new path, or on a new edge to a known path; False if neither exists."""
        if self.simulations + len(self._asked) >= self._settings.simulations:
            return False
        node, walk = self.tree.root, Walk()
        while edge := self.tree.choose(node, self._asked):
            walk.append((node, edge))
            child = self.tree.nodes.get(edge.child)
            if child is None:
                return self._send_out(edge.child, walk)
            if edge.visits == 0:
                self.tree.back_up(walk, child.reward)
                self.simulations += 1
                return True
            node = child
        return False

    def _send_out(self, path: LayerPath, walk: Walk) -> bool:
        """Ask for a path if its layers fit the budget.

        The first path that does not fit ends the search, even if a later one would fit. So a search with a larger
        budget builds the same tree, and reuses every evaluation.
        """
        layers = self.layer_executions + sum(asked.depth for asked in self._asked) + path.depth
        if self._settings.layer_budget is not None and layers > self._settings.layer_budget:
            self._layers_spent = True
            return False
        for _, edge in walk:
            edge.pending += 1
        self._asked[path] = _Asked(len(self.evaluations) + len(self._asked), walk)
        return True

    def _settle(self) -> None:
        """Add the results so far to the tree, in the order asked, and withdraw the other paths."""
        for path, asked in self._asked.items():
            for _, edge in asked.walk:
                edge.pending -= 1
            if asked.evaluation is None:
                continue
            self.evaluations.append(asked.evaluation)
            self.layer_executions += path.depth
            if path == self.tree.full and asked.evaluation.correct and self.influence is not None:
                self.tree.use_prior(move_weights(self.influence))
            reward = self.reward(asked.evaluation)
            self.tree.add(path, reward)
            self.tree.back_up(asked.walk, reward)
            self.simulations += path != self.tree.full
        self._asked.clear()

    def _check_stop(self) -> None:
        if self._settings.stop == "published" and self._is_early():
            self.stop_reason = "early"
        elif self.tree.root.closed:
            self.stop_reason = "exhausted"
        elif self._layers_spent or self.simulations >= self._settings.simulations:
            self.stop_reason = "budget"

    def _is_early(self) -> bool:
        """Whether a path is correct that saves enough layers, or any path if the full path is wrong."""
        base_wrong = not self.evaluations[0].correct
        shallow = len(self.tree.full) - EARLY_SAVED_LAYERS
        return any(one.correct and (base_wrong or one.path.depth <= shallow) for one in self.evaluations)
