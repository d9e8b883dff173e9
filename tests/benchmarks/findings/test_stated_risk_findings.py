"""Stored answers: the stated risk over random splits, and cascades from a cheap path to full depth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.findings import cascade, stated_risk
from benchmarks.lab.stored_answers import load_answers
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from router.dev.risk import StatedRisk

QUESTIONS = 600


@pytest.fixture
def file(tmp_path):
    """Full depth and three paths: of depth 5 differing on 1 %, of 4 on 10 %, most of it where the gap is small."""
    rng = np.random.default_rng(5)
    gold, full = rng.integers(3, size=(2, QUESTIONS))
    entries = []
    for text, share in (("......", 0.0), ("..--..", 0.1), (".-....", 0.01), ("2.....", 0.3)):
        gaps = rng.random(QUESTIONS) * 10
        changed = rng.random(QUESTIONS) < share * np.where(gaps < 2, 5, 0.02)
        choices = (full + changed) % 3
        scores = np.zeros((QUESTIONS, 3))
        scores[np.arange(QUESTIONS), choices] = gaps
        entries.append({"path": text, "choices": choices.tolist(), "scores": scores.tolist()})
    stored = {"questions": [f"q{n}" for n in range(QUESTIONS)], "gold": gold.tolist(), "paths": entries}
    (tmp_path / "answers.json").write_text(json.dumps(stored))
    return tmp_path / "answers.json"


def test_stored_answers_are_read(file):
    stored = load_answers(file)
    assert [stored.paths[index].depth for index in stored.shallower] == [5, 4]
    assert stored.differs[0].sum() == 0
    entry = json.loads(file.read_text())["paths"][1]
    assert stored.gaps[1] == pytest.approx([max(row) - sorted(row)[1] for row in entry["scores"]])
    ((tuned, test),) = stored.splits(1, 0.25, 3)
    assert (tuned.choices.shape[1], test.choices.shape[1]) == (150, 450)
    assert tuned.correct.sum() + test.correct.sum() == stored.correct.sum()


def test_stored_answers_that_do_not_fit(file, tmp_path):
    stored = json.loads(file.read_text())
    wrong = tmp_path / "wrong.json"
    for change, line in (
        ({"gold": [0]}, "gold and every path need one entry for each of the 600 questions"),
        ({"paths": stored["paths"][1:]}, "the first path must be the full one"),
        ({"paths": [{"path": "..x"}]}, "holds no stored answers"),
    ):
        wrong.write_text(json.dumps(stored | change))
        with pytest.raises(InputError, match=line):
            load_answers(wrong)


def test_the_risk_over_splits(file, capsys):
    stated_risk.main(file, risk=0.05, splits=6)
    found = json.loads(capsys.readouterr().out)
    assert found["mean_depth"] == 5
    assert found["exceeded_on_test"]["value"] == 0
    assert found["mean_test"] == pytest.approx(np.mean([row["test"] for row in found["splits"]]))
    stated_risk.main(file, max_loss=0.001, splits=2)
    assert json.loads(capsys.readouterr().out)["mean_depth"] == 6
    with pytest.raises(InputError, match="one of --risk and --max-loss"):
        stated_risk.main(file)


@pytest.mark.parametrize(("text", "depth"), [("..--..", 4 + 4), ("-.....", 5 + 6), (".2-...", 6 + 4), ("......", 6)])
def test_a_fall_back_starts_again_at_the_first_layer_not_run_once(text, depth):
    assert cascade.fall_back_depth(LayerPath.parse(text)) == depth


def test_a_cascade_stands_where_the_cheap_path_is_sure(file, capsys):
    stored = load_answers(file)
    found = cascade.calibrated(StatedRisk("disagreement", 0.02, 0.95), stored, 1)
    assert 0.5 < found.threshold < 3  # answers change below 2 nats
    stands = stored.gaps[1] >= found.threshold
    routed = found.answers(stored)
    assert (routed.choices[1] == np.where(stands, stored.choices[1], stored.choices[0])).all()
    assert found.mean_depth(stored) == pytest.approx(8 - 4 * stands.mean())
    cascade.main(file, risk=0.02, splits=3)
    out = capsys.readouterr()
    rows = json.loads(out.out)["rows"]
    assert set(rows) == {"..--..", ".-....", "chosen", "static at this risk"}
    assert rows["..--.."]["mean_depth"] < 6
    assert rows["..--.."]["agreement"] > 0.97
    assert rows["static at this risk"]["mean_depth"] >= 5
    assert "cheap path" in out.err
