import numpy as np
import pytest

from pathgen.paths.layer_path import LayerPath
from pathgen.static.candidates import SHRINKAGE, Effects, scanned_paths

NUM_LAYERS = 5


def test_an_effect_is_the_mean_change_against_the_full_path_shrunk_by_how_few_saw_it():
    rng = np.random.default_rng(0)
    quality = rng.random((40, 1 + 2 * NUM_LAYERS))
    found = Effects.measure(quality)
    for layer in range(NUM_LAYERS):
        skipped, repeated = quality[:, 1 + layer], quality[:, 1 + NUM_LAYERS + layer]
        kept = 40 / (40 + SHRINKAGE)
        assert found.skip[layer] == pytest.approx(kept * np.mean(skipped - quality[:, 0]))
        assert found.repeat[layer] == pytest.approx(kept * np.mean(repeated - quality[:, 0]))


def test_an_edit_is_not_praised_for_easy_questions():
    level = np.random.default_rng(0).random((100, 1))
    quality = np.repeat(level, 1 + 2 * NUM_LAYERS, axis=1)
    quality[:, 3] -= 0.1  # the skip of layer 2
    found = Effects.measure(quality)
    assert found.skip[2] == pytest.approx(-0.1 * 100 / (100 + SHRINKAGE))
    assert np.abs(np.delete(found.skip, 2)).max() == pytest.approx(0)


def test_a_prediction_is_the_sum_of_its_edits():
    effects = Effects(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.4]))
    paths = np.array([[1, 1, 1], [0, 1, 2], [0, 0, 0], [2, 0, 0], [0, 1, 0]])
    assert effects.predict(paths) == pytest.approx([0, 1.4, 7, 6.1, 5])


def test_scanned_are_the_full_path_then_skips_then_repeats():
    assert scanned_paths(2) == [LayerPath(p) for p in ([1, 1], [0, 1], [1, 0], [2, 1], [1, 2])]


def test_pinned_layers_are_not_scanned_and_have_no_effect():
    paths = scanned_paths(3, pinned={1})
    assert paths == [LayerPath(p) for p in ([1, 1, 1], [0, 1, 1], [1, 1, 0], [2, 1, 1], [1, 1, 2])]
    quality = np.array([[0.5, 0.6, 0.3, 0.7, 0.1]] * 30)
    found = Effects.measure(quality, pinned={1})
    kept = 30 / (30 + SHRINKAGE)
    assert found.skip == pytest.approx([kept * 0.1, 0, kept * -0.2])
    assert found.repeat == pytest.approx([kept * 0.2, 0, kept * -0.4])
