"""Paths of the training-free systems, computed without a model or files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pathgen.paths.layer_path import LayerAction, LayerPath
from pathgen.paths.records import seeded_hash

REPEAT_SIZES = 4
"""Most sizes of the repeated block."""


def random_paths(
    paths: Sequence[LayerPath], question_ids: Sequence[str], seed: int, pinned: Collection[int] = ()
) -> list[LayerPath]:
    """Each path's actions on random layers; a draw depends only on the seed and the question's id.

    Layers of `pinned` keep their action.
    """
    drawn = []
    for path, name in zip(paths, question_ids, strict=True):
        actions = np.array(path)
        free = [layer for layer in range(len(path)) if layer not in pinned]
        actions[free] = np.random.default_rng(seeded_hash(seed, name)).permutation(actions[free])
        drawn.append(LayerPath(actions.tolist()))
    return drawn


def shuffled_paths(paths: Sequence[LayerPath], seed: int) -> list[LayerPath]:
    """The same paths, each for another question; at least two."""
    return [paths[source] for source in derangement(len(paths), np.random.default_rng(seed))]


def derangement(count: int, rng: np.random.Generator) -> list[int]:
    """A random order in which no item keeps its place: one cycle through all (Sattolo 1986).

    Raises:
        ValueError: there are fewer than two.
    """
    if count < 2:
        raise ValueError(f"a shuffle needs at least two items; got {count}")
    order = list(range(count))
    for place in range(count - 1, 0, -1):
        other = int(rng.integers(place))
        order[place], order[other] = order[other], order[place]
    return order


def repeat_paths(num_layers: int, pinned: Collection[int] = ()) -> dict[int, LayerPath]:
    """By block size, the path that repeats each layer of the middle block; sizes up to a third of the layers.

    Layers of `pinned` are not repeated.
    """
    paths = {}
    for size in sorted({round(size) for size in np.linspace(1, max(1, num_layers // 3), REPEAT_SIZES)}):
        path = [LayerAction.EXECUTE] * num_layers
        start = (num_layers - size) // 2
        for layer in set(range(start, start + size)).difference(pinned):
            path[layer] = LayerAction.REPEAT
        paths[size] = LayerPath(path)
    return paths
