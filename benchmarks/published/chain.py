"""The tree search that Dr.LLM released (parameterlab/dr-llm at 14e8837), as pure and model-blind code.

Its tree is a chain: selection walks down as long as there is a child and only childless nodes expand, so
every node gets exactly one child, and neither the UCB term nor its length penalty ever has a choice to make.

One difference: a move after which a layer would run three times is not offered, since a path's actions are
skip, execute and repeat (released: evaluated, then stored with a label outside its three classes).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pathgen.paths.layer_path import LayerAction

EXPLORATION = 1.8
LENGTH_PENALTY = 3.0
RANDOM_PROBABILITY = 0.1
SKIP_WIDTHS = (1, 2)
EXTRA_RUNS = (0, 1)
"""How often a repeat runs its layer again; by the 0, as published, a quarter of all moves change nothing."""
ENOUGH_LAYERS_SAVED = 2

Layers = tuple[int, ...]
"""Layer indices in the order they run: what the published moves cut and paste."""


@dataclass(slots=True, eq=False)
class Node:
    """One node of the tree: a path, the paths its moves lead to, and the rewards that passed through it."""

    layers: Layers
    untried: list[Layers]
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    rewards: float = 0.0

    def score(self, simulation: int, num_layers: int) -> float:
        """Mean reward + c·√(ln N / n) − λ·length / num_layers, where N is the simulation's number, from 1."""
        explore = EXPLORATION * math.sqrt(math.log(simulation) / self.visits)
        return self.rewards / self.visits + explore - LENGTH_PENALTY * len(self.layers) / num_layers


@dataclass(frozen=True, slots=True)
class ChainSearch:
    """What one search did: its tree, and whether each distinct path was right, in the order of evaluation."""

    root: Node
    evaluated: dict[Layers, bool]
    simulations: int
    early: bool


def moves(layers: Layers, rng: np.random.Generator) -> list[Layers]:
    """The paths that one published move leads to, shuffled; those that run a layer three times left out."""
    length = len(layers)
    after = [
        layers[:at] + layers[at + width :] for at in range(length) for width in SKIP_WIDTHS if at + width <= length
    ]
    after += [
        layers[:at] + layers[at : at + 1] * extra + layers[at:]
        for at in range(length)
        for extra in EXTRA_RUNS
        if layers.count(layers[at]) + extra <= LayerAction.REPEAT
    ]
    return [after[i] for i in rng.permutation(len(after))]


def chain_search(
    evaluate: Callable[[Layers], bool], num_layers: int, *, simulations: int, rng: np.random.Generator
) -> ChainSearch:
    """The published search over one question.

    Args:
        evaluate: whether the model answers the question right along these layers; asked once a path.
        num_layers: layers of the full path.
        simulations: rounds at most; the first one revisits the full path.
        rng: orders the moves and takes the random turns.
    """
    full = tuple(range(num_layers))
    base_correct = evaluate(full)
    evaluated = {full: base_correct}
    root = Node(full, moves(full, rng))
    for simulation in range(1, simulations + 1):
        node = _select(root, simulation, num_layers, rng)
        if node.visits and node.untried:
            node = _expand(node, rng)
        if node.layers not in evaluated:
            evaluated[node.layers] = evaluate(node.layers)
        correct = evaluated[node.layers]
        _back_up(node, float(correct))
        if correct and (not base_correct or len(node.layers) + ENOUGH_LAYERS_SAVED <= num_layers):
            return ChainSearch(root, evaluated, simulation, early=True)
    return ChainSearch(root, evaluated, simulations, early=False)


def _select(root: Node, simulation: int, num_layers: int, rng: np.random.Generator) -> Node:
    node = root
    while node.children:
        if rng.random() < RANDOM_PROBABILITY:
            node = node.children[rng.integers(len(node.children))]
        else:
            node = max(node.children, key=lambda child: child.score(simulation, num_layers))
    return node


def _expand(node: Node, rng: np.random.Generator) -> Node:
    layers = node.untried.pop()
    child = Node(layers, moves(layers, rng), parent=node)
    node.children.append(child)
    return child


def _back_up(node: Node, reward: float) -> None:
    ancestor: Node | None = node
    while ancestor is not None:
        ancestor.visits += 1
        ancestor.rewards += reward
        ancestor = ancestor.parent
