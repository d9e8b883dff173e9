from types import SimpleNamespace

import numpy as np
import pytest

from pathgen.evaluation.answer_book import Scores
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import seeded_hash
from pathgen.static.choice import choose_paths, own_choice
from pathgen.static.selection import choose_by_depth, survivors

QUESTIONS, FOLDS = 500, 5


def folds():
    return np.arange(QUESTIONS) % FOLDS


def test_a_lucky_path_wins_in_sample_and_not_held_out():
    """Forty paths of one worth: the best of them looks good on all questions, and is worth no more than the others."""
    rng = np.random.default_rng(1)
    quality = (rng.random((QUESTIONS, 40)) < 0.5).astype(float)
    (choice,) = choose_by_depth(quality, np.full(40, 6), folds())
    in_sample = quality[:, choice.path].mean()
    held_out = quality[np.arange(QUESTIONS), choice.held_out].mean()
    assert in_sample == quality.mean(axis=0).max()
    assert in_sample > 0.53
    assert held_out < 0.51


def test_a_path_that_shines_in_one_fold_alone_is_not_chosen_for_it():
    """Path 1 is right on all of fold 0 and nowhere else; whoever judges fold 0 may not know that."""
    quality = np.zeros((QUESTIONS, 2))
    quality[:, 0] = 0.3
    quality[folds() == 0, 1] = 1.6
    (choice,) = choose_by_depth(quality, np.array([6, 6]), folds())
    assert choice.path == 1  # 0.32 over all questions
    assert set(choice.held_out[folds() == 0]) == {0}
    assert set(choice.held_out[folds() != 0]) == {1}


def test_each_depth_has_its_own_choice():
    quality = np.tile([0.1, 0.5, 0.9, 0.3], (QUESTIONS, 1))
    choices = choose_by_depth(quality, np.array([5, 4, 4, 6]), folds())
    assert [(choice.depth, choice.path) for choice in choices] == [(4, 2), (5, 0), (6, 3)]
    assert all(set(choice.held_out) == {choice.path} for choice in choices)


def test_racing_drops_what_is_clearly_worse_than_a_path_no_deeper():
    base = 0.5 + 0.1 * np.random.default_rng(0).normal(size=150)
    noise = np.tile([0.2, -0.2], 75)  # its mean over 150 questions has a standard error of 0.0164
    behind = {0: 0.0, 1: 0.0, 2: 0.04, 3: 0.06, 4: 0.06}
    quality = np.stack([base - gap + (noise if gap else 0.0) for gap in behind.values()], axis=1)
    # 2 is behind by less than three errors, 3 by more, 4 likewise but the shallowest of all.
    assert survivors(quality, np.array([6, 5, 6, 5, 4]), full=0).tolist() == [True, True, True, False, True]


def test_racing_goes_by_the_paired_difference_and_never_drops_the_full_path():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, (150, 1))  # moves all paths of a question alike, and so says nothing
    quality = hard + np.array([0.0, 0.1]) + 0.05 * rng.normal(size=(150, 2))
    depths = np.array([6, 6])
    assert survivors(quality, depths, full=1).tolist() == [False, True]
    assert survivors(quality, depths, full=0).tolist() == [True, True]


def test_equal_questions_have_equal_hashes_and_seeds_shuffle():
    assert seeded_hash(0, "a") == seeded_hash(0, "a") != seeded_hash(1, "a")
    counts = np.bincount([seeded_hash(0, str(i)) % FOLDS for i in range(2000)], minlength=FOLDS)
    assert counts.min() > 320


def test_each_folder_has_a_path_of_its_own():
    """Even questions are right on path 1 alone, odd ones on path 2; none is lucky, so held out is in sample."""
    paths = [LayerPath.full(3), LayerPath([1, 0, 1]), LayerPath([1, 1, 2])]
    even = np.arange(QUESTIONS) % 2 == 0
    correct = np.stack([np.zeros(QUESTIONS, dtype=bool), even, ~even], axis=1)
    scores = Scores(correct, np.where(correct, 1.0, -1.0), correct.astype(float))
    assert own_choice(even, folds(), paths, scores) == (paths[1], 1.0)
    assert own_choice(~even, folds(), paths, scores) == (paths[2], 1.0)


LAYERS = 30


def equal_paths(rng, count):
    """The full path and others of random depths, each question right on each with the same chance."""
    full = LayerPath.full(LAYERS)
    paths = {full: None}
    while len(paths) < count:
        actions = list(full)
        for layer in rng.choice(LAYERS, size=rng.integers(1, 6), replace=False):
            actions[layer] = int(rng.choice([0, 2]))
        paths[LayerPath(actions)] = None
    return list(paths)


def found_among(paths, correct):
    """What is told of a choice among these paths on questions that are right on them or not."""
    info = SimpleNamespace(model_id="tiny", fingerprint="f" * 16, task="arc")
    run = SimpleNamespace(out="run", info=info, chat=False, num_layers=LAYERS)
    count = len(correct)
    scores = Scores(correct, np.where(correct, 1.0, -1.0), correct / 2 + 0.25)
    return choose_paths([run], np.zeros(count, dtype=int), np.arange(count) % FOLDS, paths, scores, 0, ())


def test_of_equal_paths_the_gain_told_is_none_on_average_and_the_full_path_is_kept():
    rng = np.random.default_rng(0)
    told, depth_alone, own, kept = [], [], [], 0
    for _ in range(40):
        paths = equal_paths(rng, 48)
        correct = rng.random((200, len(paths))) < 0.45
        found = found_among(paths, correct)
        told.append(found.choice.cv_delta_vs_full)
        depth_alone.append(max(entry.cv_delta_vs_full for entry in found.frontier))
        own.append(found.per_folder[0].own_cv_accuracy - found.full.accuracy)
        kept += found.best == found.full
    error = np.std(told, ddof=1) / np.sqrt(len(told))
    assert np.mean(depth_alone) > 0.05  # the best of many depths, each held out: what must not be told
    assert abs(np.mean(told)) < 3 * error
    assert abs(np.mean(own)) < 3 * error
    assert kept > 30


def test_a_path_that_is_better_is_deployed_and_its_gain_is_told():
    rng = np.random.default_rng(0)
    paths = equal_paths(rng, 48)
    correct = rng.random((600, len(paths))) < 0.45
    correct[:, 7] |= rng.random(600) < 0.2
    found = found_among(paths, correct)
    assert found.best.path == paths[7] == found.per_folder[0].own_path
    gain = correct[:, 7].mean() - correct[:, 0].mean()
    assert found.choice.cv_delta_vs_full == pytest.approx(gain)  # every fold chooses it
