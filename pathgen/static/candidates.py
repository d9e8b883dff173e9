"""Measures the mean effect of each single edit, and proposes the paths that these effects predict to be good."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations, groupby, zip_longest

import numpy as np

from ..paths.layer_path import LayerAction, LayerPath, Move, all_moves

SHRINKAGE = 10.0
"""Weight, in questions, of the prior that an edit has no effect: a mean of n questions is scaled by n / (n + this)."""
SHALLOWEST_SHARE = 0.7
"""Candidates run at least this share of the layers."""
EXTRA_LAYERS = 2
"""Candidates run at most this many layers more than the full path."""
WIDEST_BLOCK_LAYERS = 10
BEAM = 8
"""Paths that the beam search keeps each time it adds a skip."""
COMBINED = 3
"""Of each depth, the number of blocks, and of other paths, that are combined with repeats."""
BEST_REPEATS = 4
"""Repeats to combine them with, alone and in pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """Mean change of quality against the full path: [L] for skipping each layer, and [L] for repeating it.

    The paths that a search stored are biased: it runs more paths with edits that help on its question, and nearly
    every edit helps on a question that full depth gets wrong.

    Layers of `pinned` take part in no path; their effects are 0.
    """

    skip: np.ndarray
    repeat: np.ndarray
    pinned: Collection[int] = ()

    @classmethod
    def measure(cls, quality: np.ndarray, pinned: Collection[int] = ()) -> Effects:
        """Shrunken means over questions, from the [Q, 1 + 2F] quality of `scanned_paths`, without NaN.

        F is the number of free layers.
        """
        count, width = quality.shape
        changes = (quality[:, 1:] - quality[:, :1]).sum(axis=0) / (count + SHRINKAGE)
        effects = np.zeros((2, width // 2 + len(pinned)))
        effects[:, [layer for layer in range(effects.shape[1]) if layer not in pinned]] = np.split(changes, 2)
        return cls(effects[0], effects[1], pinned)

    @property
    def num_layers(self) -> int:
        """The model's number of layers, L."""
        return len(self.skip)

    def predict(self, paths: np.ndarray) -> np.ndarray:
        """[P] predicted changes of quality: the summed effects of the edits of `paths`, [P, L]."""
        return (paths == LayerAction.SKIP) @ self.skip + (paths == LayerAction.REPEAT) @ self.repeat


def scanned_paths(num_layers: int, pinned: Collection[int] = ()) -> list[LayerPath]:
    """The full path, then every free layer skipped alone, then every one repeated alone."""
    full = LayerPath.full(num_layers)
    edits = [(action, layer) for action in (LayerAction.SKIP, LayerAction.REPEAT) for layer in range(num_layers)]
    return [full, *(Move(layer, action).apply(full) for action, layer in edits if layer not in pinned)]


def propose(effects: Effects, count: int) -> list[LayerPath]:
    """At most `count` different promising paths: the full path, then the best of each depth in turn.

    Depths range from SHALLOWEST_SHARE of the layers to EXTRA_LAYERS more than all.
    """
    num_layers = effects.num_layers
    full = LayerPath.full(num_layers)
    shallowest = shallowest_depth(num_layers)
    shorter = {full, *_blocks(num_layers, effects.pinned), *_beam_search(effects, shallowest)}
    bases = [
        path for ranked in _by_depth(effects, shorter) for group in _split_blocks(ranked) for path in group[:COMBINED]
    ]
    pool = (
        shorter | {move.apply(full) for move in all_moves(num_layers, effects.pinned)} | _with_repeats(effects, bases)
    )
    inside = [path for path in pool - {full} if shallowest <= path.depth <= num_layers + EXTRA_LAYERS]
    # Blocks and other paths alternate, because a block is often better than the sum of its layers predicts.
    by_depth = [_in_turn(_split_blocks(ranked)) for ranked in _by_depth(effects, inside)]
    if len(by_depth) >= count:  # not enough for one path of each depth: spread them over the depths
        by_depth = [by_depth[place] for place in np.linspace(0, len(by_depth) - 1, count - 1).round().astype(int)]
    return [full, *_in_turn(by_depth)][:count]


def shallowest_depth(num_layers: int) -> int:
    """Layer executions of the shallowest path that `propose` returns."""
    return max(1, math.ceil(SHALLOWEST_SHARE * num_layers))


def _blocks(num_layers: int, pinned: Collection[int]) -> Iterable[LayerPath]:
    """Paths that skip one block of adjacent free layers."""
    full = LayerPath.full(num_layers)
    for width in range(1, min(WIDEST_BLOCK_LAYERS, num_layers - 1) + 1):
        for first in range(num_layers - width + 1):
            if not any(layer in pinned for layer in range(first, first + width)):
                yield Move(first, LayerAction.SKIP, width).apply(full)


def _beam_search(effects: Effects, shallowest: int) -> Iterable[LayerPath]:
    beam = [LayerPath.full(effects.num_layers)]
    skips = [Move(layer, LayerAction.SKIP) for layer in range(effects.num_layers) if layer not in effects.pinned]
    while beam and beam[0].depth > shallowest:
        longer = {skip.apply(path) for path in beam for skip in skips if skip.fits(path)}
        beam = _ranked(effects, longer)[:BEAM]
        yield from beam


def _in_turn(groups: Iterable[list[LayerPath]]) -> list[LayerPath]:
    """The first path of each group, then the second of each, and so on."""
    return [path for turn in zip_longest(*groups) for path in turn if path is not None]


def _split_blocks(paths: list[LayerPath]) -> tuple[list[LayerPath], list[LayerPath]]:
    """The paths whose skipped layers are one block, and the others."""
    blocks: list[LayerPath] = []
    others: list[LayerPath] = []
    for path in paths:
        skipped = np.flatnonzero(np.array(path) == LayerAction.SKIP)
        is_block = len(skipped) > 0 and np.ptp(skipped) == len(skipped) - 1
        (blocks if is_block else others).append(path)
    return blocks, others


def _with_repeats(effects: Effects, bases: Iterable[LayerPath]) -> set[LayerPath]:
    """The bases with one and with two of the best repeats, on layers that they execute."""
    best = [layer for layer in np.argsort(-effects.repeat, kind="stable").tolist() if layer not in effects.pinned]
    repeats = [Move(layer, LayerAction.REPEAT) for layer in best[:BEST_REPEATS]]
    found = set()
    for path in bases:
        fitting = [repeat for repeat in repeats if repeat.fits(path)]
        found |= {repeat.apply(path) for repeat in fitting}
        found |= {one.apply(other.apply(path)) for one, other in combinations(fitting, 2)}
    return found


def _by_depth(effects: Effects, paths: Iterable[LayerPath]) -> list[list[LayerPath]]:
    """The paths of each depth, deepest first, each list ranked."""
    deepest_first = sorted(_ranked(effects, paths), key=lambda path: -path.depth)
    return [list(group) for _, group in groupby(deepest_first, key=lambda path: path.depth)]


def _ranked(effects: Effects, paths: Iterable[LayerPath]) -> list[LayerPath]:
    """Best prediction first; ties in lexicographic order."""
    ordered = sorted(paths)
    predicted = effects.predict(np.array(ordered, dtype=int).reshape(-1, effects.num_layers))
    return [ordered[index] for index in np.argsort(-predicted, kind="stable")]
