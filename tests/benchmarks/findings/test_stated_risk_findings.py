"""Stored answers: the stated risk over random splits, and cascades from a cheap path to full depth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.bridges import cascade
from benchmarks.findings import stated_risk
from benchmarks.lab.stored_answers import answers_line, load_answers
from pathgen.errors import InputError
from pathgen.evaluation.divergence import Difference
from pathgen.paths.layer_path import LayerPath
from router.dev.risk import StatedRisk

QUESTIONS = 600
WAYS = (("full", "......", 0.0), ("b|4", "..--..", 0.1), ("b|5", ".-....", 0.01), ("repeat", "2.....", 0.3))
"""Name, path, and share of answers that differ."""


@pytest.fixture
def file(tmp_path):
    """Full depth and three paths: of depth 5 differing on 1 %, of 4 on 10 %, most of it where the gap is small."""
    rng = np.random.default_rng(5)
    gold, full = rng.integers(3, size=(2, QUESTIONS))
    lines = [{"id": f"q{n}", "gold": int(gold[n]), "ways": {}} for n in range(QUESTIONS)]
    for name, text, share in WAYS:
        gaps = rng.random(QUESTIONS) * 10
        changed = rng.random(QUESTIONS) < share * np.where(gaps < 2, 5, 0.02)
        scores = np.zeros((QUESTIONS, 3))
        scores[np.arange(QUESTIONS), (full + changed) % 3] = gaps
        for line, row in zip(lines, scores.tolist(), strict=True):
            line["ways"][name] = {"path": text, "scores": row, "kl": share}
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "answers.jsonl"


def test_stored_answers_are_read(file):
    stored = load_answers(file)
    assert [stored.paths[index].depth for index in stored.shallower] == [5, 4]
    assert stored.differs[0].sum() == 0
    rows = [json.loads(line)["ways"]["b|4"]["scores"] for line in file.read_text().splitlines()]
    assert stored.gaps[1] == pytest.approx([max(row) - sorted(row)[1] for row in rows])
    assert stored.divergences.mean(axis=1).tolist() == pytest.approx([share for _, _, share in WAYS])
    ((tuned, test),) = stored.splits(1, 0.25, 3)
    assert (tuned.choices.shape[1], test.choices.shape[1]) == (150, 450)
    assert tuned.correct.sum() + test.correct.sum() == stored.correct.sum()
    assert load_answers(file, ["b|", "c"]).names == ("full", "b|4", "b|5")


def test_lines_of_one_question_add_up_and_a_torn_one_is_left_out(tmp_path):
    file = tmp_path / "answers.jsonl"
    full, skip = LayerPath.full(3), LayerPath.parse(".-.")
    one, other = (Difference(kl, 1.0, True, (-2.0, worse)) for kl, worse in ((0.0, -3.0), (0.5, float("nan"))))
    whole = answers_line("a", 0, {"full": (full, one), "x": (skip, other)})
    parts = [answers_line("b", 1, {"full": (full, one)}), answers_line("b", 1, {"x": (skip, one)})]
    file.write_text(whole + parts[0] + parts[1][:-9] + "\n")
    assert load_answers(file).choices.tolist() == [[0], [-1]]
    file.write_text(file.read_text() + parts[1])
    stored = load_answers(file)
    assert (stored.paths, stored.choices.tolist()) == ((full, skip), [[0, 0], [-1, 0]])
    assert (stored.gold.tolist(), stored.divergences.tolist()) == ([0, 1], [[0.0, 0.0], [0.5, 0.0]])
    assert stored.gaps.tolist() == [[1.0, 1.0], [float("-inf"), 1.0]]


@pytest.mark.parametrize(
    ("ways", "line"),
    [
        ({"full": {"path": "...", "scores": [1], "kl": 0}}, "no question has answers of full and of another way"),
        ({name: {"path": "..-", "scores": [1], "kl": 0} for name in ("full", "x")}, "full must be the full path"),
        ({name: {"path": "..y", "scores": [1], "kl": 0} for name in ("full", "x")}, "holds no stored answers"),
        ({name: {"scores": [1], "kl": 0} for name in ("full", "x")}, "holds no stored answers"),
    ],
)
def test_stored_answers_that_do_not_fit(tmp_path, ways, line):
    (tmp_path / "wrong.jsonl").write_text(json.dumps({"id": "a", "gold": 0, "ways": ways}))
    with pytest.raises(InputError, match=line):
        load_answers(tmp_path / "wrong.jsonl")


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
    assert set(rows) == {"b|4", "b|5", "chosen", "static at this risk"}
    assert rows["b|4"]["mean_depth"] < 6
    assert rows["b|4"]["agreement"] > 0.97
    low, high = rows["chosen"]["kept_beyond_static"]["ci95"]
    assert 0 < low <= rows["chosen"]["kept_beyond_static"]["value"] <= high
    assert rows["static at this risk"]["mean_depth"] >= 5
    assert "cheap path" in out.err


def test_a_lottery_between_static_paths_has_the_depth_and_differs_least(file):
    stored = load_answers(file)
    differs = stored.differs.mean(axis=1)
    assert cascade.lottery(stored, 4) == [(1, 1.0)]
    assert cascade.lottery(stored, 5) == [(2, 1.0)]
    assert differs[1] > differs[2] > 0
    assert cascade.lottery(stored, 4.25) == [(1, 0.75), (2, 0.25)]
    assert cascade.lottery(stored, 5.5) == [(2, 0.5), (0, 0.5)]
    assert cascade.lottery(stored, 9) == [(0, 1.0)]
