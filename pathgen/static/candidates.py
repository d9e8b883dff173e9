"""Which paths are worth evaluating on every question of a task, by what their edits should do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations, zip_longest

import numpy as np

from ..paths.layer_path import LayerAction, LayerPath, Move, all_moves
from .effects import Effects

SHALLOWEST_SHARE = 0.7
"""Candidates run at least this share of the layers."""
EXTRA_LAYERS = 2
"""Candidates run at most so many layers more than the full path."""
WIDEST_BLOCK_LAYERS = 10
BEAM = 8
"""Paths kept at each depth while skips are added one at a time."""
COMBINED = 3
"""Runs of neighbours, and other paths, of each depth that are combined with repeats."""
BEST_REPEATS = 4
"""Repeats that they are combined with, alone and in pairs."""


def propose(effects: Effects, count: int) -> list[LayerPath]:
    """The most promising paths: the full path, then the best of each depth in turn.

    Args:
        effects: what edits do.
        count: most paths proposed.

    Returns:
        Different paths of depths from SHALLOWEST_SHARE of the layers to EXTRA_LAYERS more than all.
    """
    num_layers = effects.num_layers
    full = LayerPath.full(num_layers)
    shallowest = shallowest_depth(num_layers)
    shorter = {full, *_blocks(num_layers), *_greedy(effects, shallowest)}
    bases = [
        path
        for ranked in _by_depth(effects, shorter).values()
        for kind in (True, False)
        for path in [path for path in ranked if _is_block(path) == kind][:COMBINED]
    ]
    pool = shorter | {move.apply(full) for move in all_moves(num_layers)} | _with_repeats(effects, bases)
    inside = [path for path in pool - {full} if shallowest <= path.depth <= num_layers + EXTRA_LAYERS]
    by_depth = [_blocks_in_turn(ranked) for ranked in _by_depth(effects, inside).values()]
    if len(by_depth) >= count:  # too few to have one of each depth, so of depths far and wide
        by_depth = [by_depth[place] for place in np.linspace(0, len(by_depth) - 1, count - 1).round().astype(int)]
    turns = zip_longest(*by_depth)
    return [full, *(path for turn in turns for path in turn if path is not None)][:count]


def shallowest_depth(num_layers: int) -> int:
    """Layer executions of the shallowest path that is proposed."""
    return max(1, math.ceil(SHALLOWEST_SHARE * num_layers))


def _blocks(num_layers: int) -> Iterable[LayerPath]:
    """Paths that skip one run of neighbouring layers."""
    full = LayerPath.full(num_layers)
    for width in range(1, min(WIDEST_BLOCK_LAYERS, num_layers - 1) + 1):
        for first in range(num_layers - width + 1):
            yield Move(first, LayerAction.SKIP, width).apply(full)


def _greedy(effects: Effects, shallowest: int) -> Iterable[LayerPath]:
    """Paths by adding the best skip again and again, BEAM of them at a time."""
    beam = [LayerPath.full(effects.num_layers)]
    skips = [Move(layer, LayerAction.SKIP) for layer in range(effects.num_layers)]
    while beam[0].depth > shallowest:
        longer = {skip.apply(path) for path in beam for skip in skips if skip.fits(path)}
        beam = _ranked(effects, longer)[:BEAM]
        yield from beam


def _blocks_in_turn(ranked: list[LayerPath]) -> list[LayerPath]:
    """One path that skips a single run of neighbours, one other, and so on: runs go better than their layers' sum."""
    blocks = [path for path in ranked if _is_block(path)]
    others = [path for path in ranked if not _is_block(path)]
    turns = zip_longest(blocks, others)
    return [path for turn in turns for path in turn if path is not None]


def _is_block(path: LayerPath) -> bool:
    skipped = [layer for layer, action in enumerate(path) if action == LayerAction.SKIP]
    return bool(skipped) and skipped[-1] - skipped[0] == len(skipped) - 1


def _with_repeats(effects: Effects, bases: Iterable[LayerPath]) -> set[LayerPath]:
    """The bases with one and with two of the best repeats, where those layers are executed."""
    best = np.argsort(-effects.repeat, kind="stable")[:BEST_REPEATS].tolist()
    repeats = [Move(layer, LayerAction.REPEAT) for layer in best]
    found = set()
    for path in bases:
        fitting = [repeat for repeat in repeats if repeat.fits(path)]
        found |= {repeat.apply(path) for repeat in fitting}
        found |= {one.apply(other.apply(path)) for one, other in combinations(fitting, 2)}
    return found


def _by_depth(effects: Effects, paths: Iterable[LayerPath]) -> dict[int, list[LayerPath]]:
    """The paths of each depth, deepest first, the most promising of a depth first."""
    depths: dict[int, list[LayerPath]] = {}
    for path in _ranked(effects, paths):
        depths.setdefault(path.depth, []).append(path)
    return dict(sorted(depths.items(), reverse=True))


def _ranked(effects: Effects, paths: Iterable[LayerPath]) -> list[LayerPath]:
    """The most promising first; equal ones in lexicographic order."""
    ordered = sorted(paths)
    predicted = effects.predict(np.array(ordered))
    return [ordered[index] for index in np.argsort(-predicted, kind="stable")]
