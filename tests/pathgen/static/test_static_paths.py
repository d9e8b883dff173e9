import json

import numpy as np
import pytest

from pathgen.errors import ArtefactError, InputError
from pathgen.evaluation.intervals import difference_interval, score_interval
from pathgen.paths.layer_path import LayerPath
from pathgen.static.selection import difference_with_error
from pathgen.static.static_paths import FolderResult, PathEntry, StaticPaths, Worth, gain_interval

FULL = LayerPath.full(6)


def entry(path, cv_accuracy):
    return PathEntry(LayerPath(path), 0.6, 0.55, cv_accuracy, cv_accuracy - 0.5, 0.01)


CLEAR, UNCLEAR = Worth(0.52, 0.02, 0.01), Worth(0.505, 0.005, 0.01)


def static(*frontier, full=0.5, choice=CLEAR):
    whole = PathEntry(FULL, full, 0.5, full, 0.0, 0.0)
    folder = FolderResult("runs/a", "arc", 300, full, 0.53, 0.01, 0.5, FULL, full)
    return StaticPaths(
        "tiny", "f" * 16, ("arc",), False, 6, 300, 5, 0, whole, frontier, choice, UNCLEAR, ("ab", "cd"), (folder,)
    )


FOUR = entry([0, 0, 1, 1, 1, 1], 0.40)
FIVE = entry([1, 0, 1, 1, 1, 1], 0.495)
SIX = entry([1, 0, 1, 1, 1, 2], 0.53)
SEVEN = entry([1, 1, 1, 1, 1, 2], 0.52)
FOUND = static(FOUR, FIVE, SIX, SEVEN)


def test_best_is_the_most_accurate_held_out_and_shallow_the_least_deep_within_a_point_of_full():
    assert FOUND.best == SIX
    assert FOUND.shallow == FIVE
    assert static(entry(FIVE.path, 0.49)).shallow.depth == 5  # one point exactly, whatever floats make of it
    assert static(entry(FIVE.path, 0.4899)).shallow.path == FULL


def test_the_full_path_is_best_where_no_other_is_clearly_better():
    assert static(FOUR, FIVE).best.path == FULL
    assert static(entry(FIVE.path, 0.505)).best.path == FULL  # its gain is no more than its error
    assert static(entry(FIVE.path, 0.52)).best.path == FIVE.path
    assert static(entry(FIVE.path, 0.52), choice=UNCLEAR).best.path == FULL  # choosing by accuracy gains nothing


def test_of_equally_accurate_paths_the_best_has_the_fewest_layers():
    assert static(FOUR, entry(FIVE.path, 0.53), SIX).best.path == FIVE.path


@pytest.mark.parametrize(("target", "wanted"), [(4, FOUR), (5, FIVE), (6, SIX), (7, SIX), (99, SIX)])
def test_at_depth_takes_the_best_held_out_of_what_fits(target, wanted):
    assert FOUND.at_depth(target) == wanted.path


def test_at_depth_may_be_the_full_path_and_refuses_what_is_too_shallow():
    assert static(FOUR).at_depth(6) == FULL
    assert static(FIVE, SEVEN, choice=UNCLEAR).at_depth(7) == FULL
    with pytest.raises(InputError, match="depth 3 or less; the shallowest has 4"):
        FOUND.at_depth(3)


def test_json_gives_back_the_same_and_shows_depth_best_and_shallow():
    content = FOUND.to_json()
    assert StaticPaths.from_json(content, "F.json") == FOUND
    stored = json.loads(content)
    assert stored["best"] == stored["frontier"][2]
    assert stored["best"]["path"] == [1, 0, 1, 1, 1, 2]
    assert [line["depth"] for line in stored["frontier"]] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: stored.pop("folds"),
        lambda stored: stored.pop("per_folder"),
        lambda stored: stored.pop("chosen_on"),
        lambda stored: stored["choice"].pop("cv_delta_se"),
        lambda stored: stored["choice"].update(cv_delta_vs_full=0.001),  # and so best would be the full path
        lambda stored: stored.update(extra=1),
        lambda stored: stored["frontier"][0].update(depth=5),
        lambda stored: stored["frontier"][0].update(cv_accuracy="0.4"),
        lambda stored: stored["frontier"][0].update(cv_accuracy=float("nan")),
        lambda stored: stored["frontier"][0].update(path=[0, 0, 1, 1, 1, 3]),
        lambda stored: stored["frontier"][0].update(path=[0, 1, 1, 1, 1]),
        lambda stored: stored["frontier"][2].update(cv_accuracy=0.1),  # and so no longer the best
        lambda stored: stored["full"].update(path=[1, 0, 1, 1, 1, 2]),
        lambda stored: stored.update(frontier=7),
        lambda stored: stored["per_folder"][0].update(accuracy=0.1),
    ],
)
def test_damage_is_found_and_told_in_one_line(damage):
    stored = json.loads(FOUND.to_json())
    damage(stored)
    with pytest.raises(ArtefactError, match=r"F\.json is no output of `pathgen static`, or damaged") as caught:
        StaticPaths.from_json(json.dumps(stored).encode(), "F.json")
    assert "\n" not in str(caught.value)


def test_no_json_and_other_versions_are_refused():
    for content in (b"", b"[]", b"\xff", FOUND.to_json()[:-9]):
        with pytest.raises(ArtefactError, match="no output of"):
            StaticPaths.from_json(content, "F.json")
    newer = FOUND.to_json().replace(b'"schema_version": 3', b'"schema_version": 4')
    with pytest.raises(ArtefactError, match="has schema version 4, this layerpaths reads 3"):
        StaticPaths.from_json(newer, "F.json")


def test_another_model_is_refused():
    FOUND.check_matches("f" * 16, 6, "F.json")
    for other in (("0" * 16, 6), ("f" * 16, 7)):
        with pytest.raises(ArtefactError, match=r"F\.json is of tiny"):
            FOUND.check_matches(*other, "F.json")


@pytest.mark.parametrize(("won", "lost", "total"), [(2, 0, 2), (0, 0, 9), (3, 1, 9), (0, 5, 40), (60, 30, 1000)])
def test_the_interval_of_a_gain_is_that_of_the_questions_won_and_lost(won, lost, total):
    new = np.arange(total) < won
    old = (np.arange(total) >= won) & (np.arange(total) < won + lost)
    worth = Worth(0.5, *difference_with_error(new, old))
    assert gain_interval(worth, total, seed=3) == difference_interval(won, lost, total, seed=3)


def test_a_gain_on_two_questions_without_an_error_is_no_certain_gain():
    assert gain_interval(Worth(1.0, 1.0, 0.0), 2, seed=0) == score_interval(2, 0, 2)
    assert gain_interval(Worth(1.0, 1.0, 0.0), 2, seed=0)[0] < 0
