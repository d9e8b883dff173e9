"""The regression's choices against its rivals, by hand, and scores over bridges kept apart from plain ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.findings.conditional import chosen_gain
from benchmarks.lab.path_scores import PathScores
from pathgen.bridges.folder import INFO_NAME
from pathgen.bridges.info import BridgesInfo
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question


def test_choices_that_read_the_question_beat_their_deal_by_hand():
    """Two paths, each right where the other is wrong: all right by reading, half right by one path or a deal."""
    first = np.arange(400) % 2 == 0
    correct = np.stack([first, ~first], axis=1)
    effects = np.where(correct, 1.0, -1.0)
    folds = np.arange(400) // 2 % 4
    *_, everywhere = chosen_gain(effects, effects, correct, folds, np.random.default_rng(0))
    assert everywhere["coverage"] == 1
    assert everywhere["delta_vs_static"] == everywhere["delta_vs_shuffled"] == 0.5
    for rival in ("static", "shuffled"):
        low, high = everywhere[f"delta_vs_{rival}_ci95"]
        assert 0.44 < low <= 0.5 <= high < 0.56
    assert everywhere["shuffled"] == pytest.approx(0, abs=0.01)
    assert everywhere["p_value"] == 0

    blind = np.zeros_like(effects)
    *_, everywhere = chosen_gain(blind, effects, correct, folds, np.random.default_rng(0))
    assert everywhere["delta_vs_shuffled"] == pytest.approx(0)
    assert everywhere["p_value"] > 0.9


def test_scores_over_other_bridges_are_not_taken(tmp_path):
    question, path = Question("a", "Which?", ("b", "c"), 0), LayerPath([1, 0])
    info = BridgesInfo("m", "f", num_layers=2, width=4, rank=1, ridge=0.1, text=(), tokens=9, r2=(0, 0), digest="d1")
    (tmp_path / INFO_NAME).write_bytes(info.to_json())
    entry = {"template": "arc", "question": question.sha, "path": "10"}
    lines = [{"scores": [-1.0, -2.0]}, {"scores": [-3.0, -5.0], "bridges": "d1"}, {"scores": [0, 0], "bridges": "d2"}]
    file = tmp_path / "scores.jsonl"
    file.write_text("".join(json.dumps(entry | line) + "\n" for line in lines))
    assert PathScores(file, "m").margins("arc", [question], [path]) == [[1.0]]
    assert PathScores(file, "m", bridges=tmp_path).margins("arc", [question], [path]) == [[2.0]]
