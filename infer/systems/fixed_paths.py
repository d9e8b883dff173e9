"""The paths of the training-free systems, as plain values: no model, no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pathgen.paths.layer_path import LayerAction, LayerPath
from pathgen.paths.records import seeded_hash

REPEAT_SIZES = 4
"""Sizes of the repeated block that are tried."""


def random_paths(paths: Sequence[LayerPath], question_ids: Sequence[str], seed: int) -> list[LayerPath]:
    """Each path's actions on layers drawn at random: as deep, with as many skips and repeats.

    Args:
        paths: one a question.
        question_ids: of the questions; a draw depends on the seed and the id alone.
        seed: of the run.
    """
    return [
        LayerPath(np.random.default_rng(seeded_hash(seed, name)).permutation(path).tolist())
        for path, name in zip(paths, question_ids, strict=True)
    ]


def shuffled_paths(paths: Sequence[LayerPath], seed: int) -> list[LayerPath]:
    """The same paths, each dealt to another question.

    Raises:
        ValueError: fewer than two.
    """
    return [paths[source] for source in derangement(len(paths), np.random.default_rng(seed))]


def derangement(count: int, rng: np.random.Generator) -> list[int]:
    """A random order in which nothing stays in its place: one cycle through all (Sattolo 1986).

    Raises:
        ValueError: fewer than two.
    """
    if count < 2:
        raise ValueError("nothing can change places with itself: at least two are needed")
    order = list(range(count))
    for place in range(count - 1, 0, -1):
        other = int(rng.integers(place))
        order[place], order[other] = order[other], order[place]
    return order


def repeat_paths(num_layers: int) -> dict[int, LayerPath]:
    """Block size to the path that runs each layer of that block, in the middle, twice; up to a third of the layers."""
    largest = max(1, num_layers // 3)
    sizes = sorted({round(size) for size in np.linspace(1, largest, REPEAT_SIZES)})
    paths = {}
    for size in sizes:
        path = [LayerAction.EXECUTE] * num_layers
        start = (num_layers - size) // 2
        path[start : start + size] = [LayerAction.REPEAT] * size
        paths[size] = LayerPath(path)
    return paths
