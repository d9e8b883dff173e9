"""The calibrated prior: what a scan asks, what is measured by hand, and what is refused."""

from __future__ import annotations

import math

import pytest

from pathgen.errors import ArtefactError, InputError
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerAction, LayerPath, Move, all_moves
from pathgen.paths.records import Evaluation
from pathgen.search.prior import SCAN_CHUNK, TEMPERATURE, MoveScan, Prior, load_prior, measure_moves
from pathgen.search.settings import SearchSettings

LAYERS = 2
FULL = LayerPath.full(LAYERS)
COST = CostModel.layers(LAYERS)
SKIP_0 = Move(0, LayerAction.SKIP)
REPEAT_1 = Move(1, LayerAction.REPEAT)


def evaluation(path: LayerPath, margin: float | None) -> Evaluation:
    return Evaluation(path, margin is not None and margin > 0, margin)


def scan_of(margins: dict[Move | None, float | None]) -> dict[LayerPath, Evaluation]:
    """A scan by move; None is the full path."""
    paths = {move: move.apply(FULL) if move else FULL for move in margins}
    return {path: evaluation(path, margins[move]) for move, path in paths.items()}


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_moves_measured_by_hand():
    """Question one is right at full depth (margin 1), question two wrong (margin -1)."""
    scans = [scan_of({None: 1.0, SKIP_0: 2.0, REPEAT_1: -3.0}), scan_of({None: -1.0, SKIP_0: 1.0, REPEAT_1: None})]
    found = {entry.move: entry for entry in measure_moves(scans, LAYERS, SearchSettings(), COST, False)}

    skip = found[SKIP_0]
    assert (skip.keeps, skip.mends, skip.margin_shift) == (1.0, 1.0, 1.5)
    # reward = ½·correct + ½·σ(margin) − ¼·depth / 2; skipping one of two layers gives back ⅛.
    first = (sigma(2) - sigma(1)) / 2 + 1 / 8
    second = 1 / 2 + (sigma(1) - sigma(-1)) / 2 + 1 / 8
    assert (skip.gain_if_right, skip.gain_if_wrong) == pytest.approx((first, second))
    assert skip.layers_run == 1  # layer 1 alone: nothing below it can be shared

    repeat = found[REPEAT_1]
    assert (repeat.keeps, repeat.mends, repeat.margin_shift) == (0.0, 0.0, -4.0)
    assert repeat.layers_run == 1  # its first pass is the full path's
    never = found[Move(0, LayerAction.SKIP, 2)]
    assert (never.keeps, never.mends, never.gain_if_right, never.gain_if_wrong) == (None, None, -1.0, -1.0)


def test_a_question_without_a_margin_at_full_depth_is_left_out():
    usable = scan_of({None: 1.0, SKIP_0: 2.0})
    with_sick = measure_moves([usable, scan_of({None: None, SKIP_0: 9.0})], LAYERS, SearchSettings(), COST, False)
    assert with_sick == measure_moves([usable], LAYERS, SearchSettings(), COST, False)


def test_weights_grow_with_the_gain():
    prior = Prior(
        "f", "arc", 1, measure_moves([scan_of({None: 1.0, SKIP_0: 2.0})], LAYERS, SearchSettings(), COST, False)
    )
    gain = prior.statistics[0].gain_if_right
    assert prior.weights(True)[SKIP_0] == pytest.approx(math.exp(gain / TEMPERATURE))
    assert prior.weights(False) == prior.weights(True)  # no wrong answer was seen: the mean over all serves


def test_what_mends_and_what_keeps_weigh_apart():
    scans = [scan_of({None: 1.0, SKIP_0: 2.0, REPEAT_1: -3.0}), scan_of({None: -1.0, SKIP_0: -2.0, REPEAT_1: 3.0})]
    prior = Prior("f", "arc", 2, measure_moves(scans, LAYERS, SearchSettings(), COST, False))
    assert prior.weights(True)[SKIP_0] > prior.weights(True)[REPEAT_1]
    assert prior.weights(False)[SKIP_0] < prior.weights(False)[REPEAT_1]


def test_a_scan_asks_for_every_legal_single_move_once():
    layers = 12
    scan = MoveScan(layers, SearchSettings(), CostModel.layers(layers))
    asked = []
    while paths := scan.ask():
        assert len(paths) <= SCAN_CHUNK
        assert scan.ask() == []  # some are untold
        for path in paths:
            assert scan.tell(path, evaluation(path, 1.0))
            assert not scan.tell(path, evaluation(path, 1.0))
        asked += paths
    full = LayerPath.full(layers)
    assert asked[0] == full
    assert sorted(asked[1:]) == sorted(move.apply(full) for move in all_moves(layers))
    assert [e.path for e in scan.evaluations] == asked
    assert scan.stop_reason == "budget"


def test_a_scan_keeps_to_the_caps():
    one = MoveScan(LAYERS, SearchSettings(max_edits=1, max_depth=LAYERS), COST)
    assert set(one.ask()) == {FULL, LayerPath((0, 1)), LayerPath((1, 0))}


@pytest.fixture
def prior() -> Prior:
    return Prior(
        "abc", "arc", 1, measure_moves([scan_of({None: 1.0, SKIP_0: 2.0})], LAYERS, SearchSettings(), COST, False)
    )


def test_a_file_gives_the_same_prior_again(prior, tmp_path):
    (tmp_path / "prior.json").write_bytes(prior.to_json())
    again = load_prior(str(tmp_path / "prior.json"))
    assert again == prior
    assert again.digest == prior.digest
    again.check_matches("abc", "arc", LAYERS, "prior.json")


@pytest.mark.parametrize(("fingerprint", "task", "layers"), [("xyz", "arc", 2), ("abc", "math", 2), ("abc", "arc", 3)])
def test_a_prior_of_another_model_or_task_is_refused(prior, fingerprint, task, layers):
    with pytest.raises(ArtefactError, match=r"prior\.json"):
        prior.check_matches(fingerprint, task, layers, "prior.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"statistics": [1]}'])
def test_what_is_no_prior_is_refused(tmp_path, content):
    (tmp_path / "prior.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"prior\.json"):
        load_prior(str(tmp_path / "prior.json"))


def test_a_missing_prior_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_prior(str(tmp_path / "nowhere.json"))
