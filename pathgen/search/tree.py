"""The tree of a search: evaluated paths as nodes, moves as edges, and the rule that chooses the next move."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ..paths.cost import CostModel
from ..paths.layer_path import LayerAction, LayerPath, Move, all_moves
from .settings import ROUNDING, SearchSettings

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True)
class Edge:
    """One move from a node: the path it leads to, its P, the number of finished walks, and of pending ones."""

    child: LayerPath
    prior: float
    visits: int = 0
    pending: int = 0


@dataclass(slots=True)
class Node:
    """An evaluated path; different orders of moves lead to the same node."""

    path: LayerPath
    reward: float
    moves: list[tuple[Move, float]]
    """Its legal moves and their P, in the order in which widening considers them."""
    edges: list[Edge] = field(default_factory=list)
    """Of the first moves that widening has considered; the others are built when needed."""
    reward_sum: float = 0.0
    """Its own reward plus the reward of every walk that continued from here."""
    visits: int = 0
    """Number of rewards in the sum; N(s) = 1 + Σ visits of the edges."""
    closed: bool = False
    """Whether every path reachable from here has been evaluated."""

    def __post_init__(self) -> None:
        self.add(self.reward)

    def add(self, reward: float) -> None:
        """Count one reward."""
        self.reward_sum += reward
        self.visits += 1

    @property
    def value(self) -> float:
        """Mean of the rewards."""
        return self.reward_sum / self.visits

    def all_edges(self) -> Iterator[Edge]:
        """The edges of all legal moves, in order, built when they are reached."""
        for index, (move, prior) in enumerate(self.moves):
            if index == len(self.edges):
                self.edges.append(Edge(move.apply(self.path), prior))
            yield self.edges[index]


Walk = list[tuple[Node, Edge]]
"""The nodes of a walk before its end, and the edge it took from each."""


class PathTree:
    """The evaluated paths as `nodes`, from the path `full`; a graph, because several orders of moves reach one path.

    The arguments are those of `PathSearch`.

    Raises:
        ValueError: the cap leaves no room for the full path.
    """

    def __init__(
        self,
        num_layers: int,
        settings: SearchSettings,
        cost: CostModel,
        rng: np.random.Generator,
        pinned: Collection[int] = (),
    ) -> None:
        self.nodes: dict[LayerPath, Node] = {}
        self.full = LayerPath.full(num_layers)
        self._settings, self._cost, self._rng = settings, cost, rng
        self._cost_cap = settings.cost_cap(cost, num_layers)
        self._moves = all_moves(num_layers, pinned)
        self._prior = dict.fromkeys(self._moves, 1.0)
        self._closed_children: Counter[LayerPath] = Counter()

    def use_prior(self, prior: Mapping[Move, float]) -> None:
        """Use this prior, a weight of each move (0 if missing), for the moves of nodes added later.

        A larger weight is considered earlier and explored more. Without a prior all moves weigh the same.

        Raises:
            ValueError: the prior has an unknown move, or a weight that is negative or not finite.
        """
        moves = all_moves(len(self.full))
        if unknown := set(prior) - set(moves):
            raise ValueError(f"the prior names a move that {len(self.full)} layers do not have: {min(unknown)}")
        if bad := [move for move, weight in prior.items() if not (math.isfinite(weight) and weight >= 0)]:
            raise ValueError(f"a prior weight must be a finite number >= 0; got {prior[bad[0]]} for {bad[0]}")
        self._prior = {move: float(prior.get(move, 0.0)) for move in self._moves}

    @property
    def root(self) -> Node:
        """The full path's node; it must have been added."""
        return self.nodes[self.full]

    def add(self, path: LayerPath, reward: float) -> None:
        """Add an evaluated path as a node."""
        node = self.nodes[path] = Node(path, reward, self._legal_moves(path))
        self._close(node)

    def choose(self, node: Node, pending: Container[LayerPath]) -> Edge | None:
        """The edge of best score among the considered ones that do not lead to a pending or closed path.

        None if all do; then, if the node is not closed, only pending paths are left.
        """

        def is_available(path: LayerPath) -> bool:
            known = self.nodes.get(path)
            return path not in pending and not (known and known.closed)

        width = math.ceil(self._settings.widening_k * node.visits**self._settings.widening_alpha - ROUNDING)
        candidates = islice((edge for edge in node.all_edges() if is_available(edge.child)), max(1, width))
        return max(candidates, key=lambda edge: self.score(node, edge), default=None)

    def score(self, node: Node, edge: Edge) -> float:
        """`Q(child) + c · P(move) · √N(s) / (1 + n(s, move) + pending)`; the largest is chosen.

        Q of a child without a result is its parent's value. P has mean 1 over the node's legal moves, so c means the
        same with or without a prior and for any number of layers.
        """
        child = self.nodes.get(edge.child, node)
        spread = math.sqrt(node.visits) / (1 + edge.visits + edge.pending)
        return child.value + self._settings.exploration * edge.prior * spread

    def back_up(self, walk: Walk, reward: float) -> None:
        """Count a finished walk on its edges and on the nodes before its end.

        The last node already has its own reward, and a second way to it is not a second measurement.
        """
        for node, edge in walk:
            node.add(reward)
            edge.visits += 1

    def _legal_moves(self, path: LayerPath) -> list[tuple[Move, float]]:
        """The moves within all caps, with P, by descending prior; ties are shuffled."""
        cost, depth = self._cost.cost(path), path.depth
        edits_left = self._settings.max_edits - path.edits

        def is_legal(move: Move) -> bool:
            extra, end = int(move.action) - LayerAction.EXECUTE, move.layer + move.width
            return (
                move.width <= edits_left
                and depth + extra * move.width >= 1
                and cost + extra * sum(self._cost.weights[move.layer : end]) <= self._cost_cap
                and move.fits(path)
            )

        legal = [move for move in self._prior if is_legal(move)]
        moves = [legal[index] for index in self._rng.permutation(len(legal))]
        moves.sort(key=lambda move: -self._prior[move])
        total = math.fsum(self._prior[move] for move in moves)
        return [(move, self._prior[move] * len(moves) / total if total else 1.0) for move in moves]

    def _close(self, node: Node) -> None:
        """Close a node if all its legal moves lead to closed nodes; then its parents by the same rule."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node.closed or self._closed_children[node.path] < len(node.moves):
                continue
            node.closed = True
            for parent in _parents(node.path):
                # Parents not yet evaluated count too: another order of moves may reach them later.
                self._closed_children[parent] += 1
                if parent in self.nodes:
                    stack.append(self.nodes[parent])


def _parents(path: LayerPath) -> Iterator[LayerPath]:
    """Every path from which one move leads to `path`."""
    for layer, action in enumerate(path):
        if action != LayerAction.EXECUTE:
            yield LayerPath((*path[:layer], LayerAction.EXECUTE, *path[layer + 1 :]))
        if path[layer : layer + 2] == (LayerAction.SKIP, LayerAction.SKIP):
            yield LayerPath((*path[:layer], LayerAction.EXECUTE, LayerAction.EXECUTE, *path[layer + 2 :]))
