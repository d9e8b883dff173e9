import numpy as np
import pytest

from pathgen.effects import RIDGE, Effects

NUM_LAYERS = 8


def random_paths(count, rng):
    return rng.choice([0, 1, 2], size=(count, NUM_LAYERS), p=[0.25, 0.6, 0.15])


def test_planted_effects_are_recovered():
    rng = np.random.default_rng(0)
    skip, repeat = rng.normal(0, 0.1, NUM_LAYERS), rng.normal(0, 0.1, NUM_LAYERS)
    adjacent = np.zeros(NUM_LAYERS - 1)
    adjacent[3] = 0.2  # layers 3 and 4 go together better than either alone
    paths = random_paths(20_000, rng)
    pairs = (paths[:, :-1] == 0) & (paths[:, 1:] == 0)
    quality = (paths == 0) @ skip + (paths == 2) @ repeat + pairs @ adjacent + rng.normal(0, 0.3, len(paths))
    found = Effects.fit(paths, quality, np.arange(20_000) // 50)
    assert found.skip == pytest.approx(skip, abs=0.03)
    assert found.repeat == pytest.approx(repeat, abs=0.03)
    assert found.adjacent == pytest.approx(adjacent, abs=0.04)


def test_an_edit_is_not_praised_for_the_questions_it_was_tried_on():
    """Skipping layer 5 hurts, and was tried where everything works; searches do sample like that."""
    rng = np.random.default_rng(0)
    questions = np.arange(20_000) // 50
    easy = rng.random(400) < 0.5
    paths = random_paths(20_000, rng)
    paths[:, 5] = np.where(rng.random(20_000) < np.where(easy, 0.5, 0.05)[questions], 0, 1)
    quality = 0.8 * easy[questions] - 0.1 * (paths[:, 5] == 0) + rng.normal(0, 0.1, len(paths))
    assert Effects.fit(paths, quality, questions).skip[5] == pytest.approx(-0.1, abs=0.02)


def test_a_prediction_is_the_sum_of_its_edits():
    effects = Effects(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.4]), np.array([10.0, 20.0]))
    paths = np.array([[1, 1, 1], [0, 1, 2], [0, 0, 0], [2, 0, 0], [0, 1, 0]])
    assert effects.predict(paths) == pytest.approx([0, 1.4, 37, 26.1, 5])


def test_an_effect_is_shrunk_by_how_seldom_it_was_seen():
    pair = np.ones((2, NUM_LAYERS), dtype=int)
    pair[0, 2] = 0
    for count in (1, 10, 1000):  # questions, each of which says that this skip is worth 1
        quality, questions = np.tile([1.0, 0.0], count), np.repeat(np.arange(count), 2)
        found = Effects.fit(np.tile(pair, (count, 1)), quality, questions)
        assert found.skip[2] == pytest.approx(count / (count + 2 * RIDGE))
        assert np.abs(np.delete(found.skip, 2)).max() == 0


def test_without_evaluations_nothing_has_an_effect():
    found = Effects.fit(np.empty((0, NUM_LAYERS), dtype=int), np.empty(0), np.empty(0, dtype=int))
    assert not found.predict(random_paths(5, np.random.default_rng(0))).any()
