"""The search over sets of skipped layers, against all sets of a small model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pathgen.paths.layer_path import LayerPath
from pathgen.static.skip_search import EXTENSIONS, FINALISTS, ROUNDS, RUNS, SWAPS, SkipSearch

LAYERS = 9


def skipped(path: LayerPath) -> tuple[int, ...]:
    return tuple(layer for layer, action in enumerate(path) if not action)


def landscape(seed: int):
    """A divergence with effects of single layers, of pairs, and a discount for neighbours that go together."""
    draw = np.random.default_rng(seed)
    alone, pairs = draw.uniform(0.1, 2, LAYERS), draw.uniform(0, 0.4, (LAYERS, LAYERS))

    def divergence(path: LayerPath) -> float:
        layers = skipped(path)
        value = float(alone[list(layers)].sum()) + sum(pairs[a, b] for a, b in combinations(layers, 2))
        return value - sum(0.3 for a, b in combinations(layers, 2) if b == a + 1)

    return divergence


def search(divergence, shallowest, asked=None):
    def measure(paths, everything):
        if asked is not None:
            asked.append((list(paths), everything))
        return np.array([divergence(path) for path in paths])

    return SkipSearch(LAYERS, shallowest, measure).run()


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_nearly_the_best_set_of_every_depth(seed):
    divergence = landscape(seed)
    found = search(divergence, 4)
    assert [path.depth for path in found] == [8, 7, 6, 5, 4]
    for path in found:
        every = [
            divergence(LayerPath(int(layer not in skips) for layer in range(LAYERS)))
            for skips in combinations(range(LAYERS), LAYERS - path.depth)
        ]
        assert divergence(path) <= min(every) + 0.1
        assert divergence(path) < np.median(every)


def test_effects_that_add_up_give_the_best_layers_of_all():
    alone = [3, 1, 4, 1.5, 9, 2, 6, 5, 3.5]
    for path in search(lambda path: sum(alone[layer] for layer in skipped(path)), 3):
        assert set(skipped(path)) == set(np.argsort(alone)[: LAYERS - path.depth].tolist())


def test_a_block_that_is_cheap_only_as_a_whole_is_found():
    alone = [0.5, 5, 0.5, 5, 1, 1, 1, 5, 0.5]  # the sum prefers layers 0, 2 and 8

    def divergence(path):
        layers = skipped(path)
        return 0.1 if layers == (4, 5, 6) else sum(alone[layer] for layer in layers)

    assert skipped(search(divergence, 6)[-1]) == (4, 5, 6)


@pytest.mark.parametrize("seed", range(6))
def test_no_run_of_adjacent_layers_of_any_depth_is_better_than_what_is_found(seed):
    """As bridged layers do: each costs the more, the more others are skipped, but less beside its neighbour."""
    draw = np.random.default_rng(seed)
    alone, start = draw.uniform(0.5, 1.5, LAYERS), draw.uniform(0, 1, LAYERS)

    def divergence(path):
        layers = skipped(path)
        runs = [layer for layer in layers if layer - 1 not in layers]
        return sum(alone[layer] for layer in layers) + (len(runs) - 1) * 2 + sum(start[layer] for layer in runs)

    for path in search(divergence, 3):
        count = LAYERS - path.depth
        runs = [range(first, first + count) for first in range(LAYERS - count + 1)]
        every = [divergence(LayerPath(int(layer not in run) for layer in range(LAYERS))) for run in runs]
        assert divergence(path) <= min(every) + 1e-9


def test_local_search_exchanges_layers_that_the_order_of_single_effects_misleads():
    """Layers 0 and 1 are the best alone and hurt each other; without 0 the best pair is 1 and 8, and then 8 and 7."""
    alone = [0.1, 0.11, 5, 5, 5, 5, 5, 0.3, 0.2]

    def divergence(path):
        layers = set(skipped(path))
        return (
            sum(alone[layer] for layer in layers) + 3 * ({0, 1} <= layers) + 3 * ({0, 8} <= layers) * (len(layers) > 2)
        )

    found = search(divergence, 6)
    assert {skipped(path) for path in found[1:]} == {(0, 8), (1, 7, 8)}


def test_the_work_is_bounded_and_the_finalists_alone_run_on_all_questions():
    asked: list = []
    search(landscape(0), 4, asked)
    raced = [path for paths, everything in asked if not everything for path in paths]
    assert len(raced) == len(set(raced)) <= LAYERS + 5 * (EXTENSIONS + 2 * RUNS + 1 + ROUNDS * SWAPS)
    assert [len(paths) for paths, everything in asked if everything] == [FINALISTS] * 5


def test_equal_divergences_are_settled_by_the_layers_numbers():
    assert [skipped(path) for path in search(lambda path: float(len(skipped(path))), 7)] == [(0,), (0, 1)]


def test_pinned_layers_are_never_skipped_and_end_the_frontier():
    divergence = landscape(0)
    found = SkipSearch(
        LAYERS, 1, lambda paths, everything: np.array([divergence(path) for path in paths]), (2, 5)
    ).run()
    assert [len(skipped(path)) for path in found] == list(range(1, LAYERS - 1))
    assert not any({2, 5} & set(skipped(path)) for path in found)
