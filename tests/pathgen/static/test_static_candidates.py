from collections import Counter

import numpy as np
import pytest

from pathgen.paths.layer_path import LayerPath
from pathgen.static.candidates import Effects, propose

NUM_LAYERS = 30
FULL = LayerPath.full(NUM_LAYERS)


def planted(skips=(), repeats=()):
    """Every edit costs 0.1, these nothing or even a gain of 0.05."""
    skip, repeat = np.full(NUM_LAYERS, -0.1), np.full(NUM_LAYERS, -0.1)
    skip[list(skips)] = 0.05
    repeat[list(repeats)] = 0.05
    return Effects(skip, repeat)


def test_the_full_path_comes_first_and_none_twice():
    for count in (2, 10, 48):
        paths = propose(planted([3]), count)
        assert paths[0] == FULL
        assert len(set(paths)) == len(paths) == count


def test_candidates_are_spread_over_depths():
    by_depth = Counter(path.depth for path in propose(planted(), 48)[1:])
    assert set(by_depth) == set(range(21, 33))
    assert max(by_depth.values()) - min(by_depth.values()) <= 1


def test_few_candidates_are_of_depths_far_and_wide():
    depths = [path.depth for path in propose(planted(), 6)[1:]]
    assert (depths[0], depths[-1]) == (32, 21)
    assert depths == sorted(set(depths), reverse=True)


def test_the_best_of_each_depth_is_found():
    good = [4, 9, 16, 17, 18, 19, 20, 26, 28]
    paths = propose(planted(good), 48)
    for skips in range(1, len(good) + 1):
        of_depth = [path for path in paths if path.depth == NUM_LAYERS - skips and 2 not in path]
        assert any(set(np.flatnonzero(np.array(path) == 0)) <= set(good) for path in of_depth), skips


def test_good_skips_are_combined_with_good_repeats():
    paths = propose(planted([19], [25, 27]), 48)
    wanted = LayerPath({19: 0, 25: 2, 27: 2}.get(layer, 1) for layer in range(NUM_LAYERS))
    assert wanted in paths


def test_each_depth_has_a_block_though_scattered_skips_promise_more():
    """Single edits do not tell that neighbours go together better than their sum."""
    scattered = planted([3, 6, 9, 12, 15, 18, 21, 24, 27])
    for depth in range(21, 30):
        of_depth = [path for path in propose(scattered, 60) if path.depth == depth]
        skips = [np.flatnonzero(np.array(path) == 0) for path in of_depth]
        assert any(np.ptp(layers) == len(layers) - 1 for layers in skips if len(layers)), depth
        assert depth > 28 or any(np.ptp(layers) > len(layers) - 1 for layers in skips if len(layers)), depth


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_smallest_models_have_candidates_too(num_layers):
    nothing = Effects(np.zeros(num_layers), np.zeros(num_layers))
    paths = propose(nothing, 48)
    assert paths[0] == LayerPath.full(num_layers)
    assert all(1 <= path.depth <= num_layers + 2 for path in paths)
    assert len(paths) > 1


@pytest.mark.parametrize("pinned", [{2}, {0, 18, 19}, set(range(3, NUM_LAYERS)), set(range(NUM_LAYERS))])
def test_pinned_layers_run_once_on_every_candidate(pinned):
    """Though skipping and repeating all layers promises a gain."""
    gains = np.full(NUM_LAYERS, 0.05)
    paths = propose(Effects(gains, gains, pinned), 48)
    assert paths[0] == FULL
    assert all(path[layer] == 1 for path in paths for layer in pinned)
    assert (len(paths) > 1) == (len(pinned) < NUM_LAYERS)
