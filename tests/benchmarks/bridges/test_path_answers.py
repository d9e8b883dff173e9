"""What paths with bridges and without are told to give, from kept answers."""

import json

import pytest
import torch

from benchmarks.bridges import paths
from benchmarks.bridges.depth_picture import Point, read_column
from benchmarks.lab.stored_answers import answers_line, load_answers
from pathgen.bridges.folder import save_bridges
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.evaluation.divergence import Difference
from pathgen.evaluation.intervals import wilson_interval
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath

FULL, SHORT = LayerPath.full(3), LayerPath([1, 0, 1])


def ways_of(full, short, nats):
    """What full depth and a shorter path choose, of two choices, and how far apart they are."""
    scores = ((-1.0, -2.0), (-2.0, -1.0))
    return {
        "full": (FULL, Difference(0.0, 1, None, scores[full])),
        "bridged|2": (SHORT, Difference(nats, full == short, None, scores[short])),
    }


def test_shares_of_right_and_of_kept_answers(tmp_path):
    file = tmp_path / "answers.jsonl"
    asked = {"won": (0, 1, 0, 0.5), "lost": (0, 0, 1, 0.3), "kept": (1, 1, 1, 0.1), "same": (1, 0, 0, 0.1)}
    file.write_text("".join(answers_line(name, gold, ways_of(*found)) for name, (gold, *found) in asked.items()))
    row = paths.ways_measured(load_answers(file), 0)["bridged|2"]
    assert (row["path"], row["accuracy"], row["agreement"]) == (str(SHORT), 0.5, 0.5)
    assert (row["gain"], row["won"], row["lost"], row["p"]) == (0.0, 1, 1, 1.0)
    assert row["agreement_ci95"] == pytest.approx(wilson_interval(2, 4))
    assert row["divergence"] == pytest.approx(0.25)
    some = paths.ways_measured(load_answers(file, questions={"won", "kept", "unknown"}), 0)["bridged|2"]
    assert (some["accuracy"], some["gain"], some["agreement"]) == (1.0, 0.5, 0.5)


def test_the_command_goes_on_tells_of_some_and_is_drawn(tiny_model, tmp_path, capsys):
    questions, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    questions.write_text(
        "".join(
            json.dumps({"id": f"q{n}", "question": f"Which {n}?", "choices": ["one", "two"], "answer": "A"}) + "\n"
            for n in range(3)
        )
    )
    maps = tuple(Bridge(torch.zeros(1, 32), torch.zeros(32, 1), torch.zeros(32)) for _ in range(6))
    info = BridgesInfo("tiny", fingerprint(tiny_model), 6, 32, 1, 0.1, ("notes",), 9, (0.0,) * 6, "")
    save_bridges(Bridges(maps), info, tmp_path / "bridges")
    given = {"model": str(tiny_model), "questions": str(questions), "bridges": tmp_path / "bridges", "out": out}
    paths.main(**given, path=["5=..-..."], limit=2)
    capsys.readouterr()
    paths.main(**given, path=["5=..-..."], asked="three questions")
    found = json.loads(capsys.readouterr().out)
    assert (found["questions"], found["bridges"]["rank"], found["bridges"]["tokens"]) == (3, 1, 9)
    before = out.read_bytes()
    paths.main(**given, path=["5=..-..."], limit=1)
    assert out.read_bytes() == before  # nothing was left to score
    assert json.loads(capsys.readouterr().out)["questions"] == 1

    plain, bridged = (found["ways"][name] for name in ("plain|5", "bridged|5"))
    assert bridged == plain  # maps of zero leave the states as skips do
    column = read_column(found)
    assert (column.layers, column.asked, column.questions) == (6, "three questions", 3)
    assert column.systems["with bridges"] == (Point(5, plain["accuracy"], plain["agreement"]),)
