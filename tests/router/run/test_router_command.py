"""`router` for real: processes of their own, runs of `pathgen generate`, features computed by Ray's actors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Answer
from router_commands import same_files

pytestmark = pytest.mark.ray

QUICK = ("--windows", 2, "--width", 4, "--epochs", 2, "--dev-share", 0.3)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs a program in a process of its own; it shall succeed."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text("0" * 64)
    environment = os.environ | {"RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        command = [sys.executable, "-m", *map(str, arguments)]
        process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        assert process.returncode == 0, process.stderr
        return Answer(process.returncode, process.stdout, process.stderr)

    return run


@pytest.fixture(scope="module")
def runs(call, tmp_path_factory, tiny_model):
    """Folders of searched questions of two tasks."""
    folder = tmp_path_factory.mktemp("runs")
    for task, source, limit in (("arc", "builtin", 24), ("math", "builtin-math", 8)):
        question = ("--model", tiny_model, "--task", task, "--questions", source, "--limit", limit)
        budget = ("--simulations", 6, "--actors", 1, "--threads-per-actor", 1)
        call("pathgen", "generate", *question, *budget, "--out", folder / task)
    return folder


def test_features_are_computed_once_and_again_only_where_damaged(call, runs, tmp_path):
    arguments = ("router", "train", "--paths", runs / "arc", "--method", "imitate", "--actors", 1, *QUICK, "--json")
    first = call(*arguments, "--out", tmp_path / "first")
    assert first.json["feature_seconds"] > 0
    second = call(*arguments, "--out", tmp_path / "second", "--tracker", "none", "--quiet")
    assert second.json["feature_seconds"] == 0
    assert second.stderr == ""  # no bar of a library, no talk of Ray
    assert same_files(tmp_path / "first", tmp_path / "second")
    assert list((tmp_path / "first" / "logs").rglob("events.*"))
    cached = next(iter((runs / "arc" / "features").rglob("*.safetensors")))
    os.truncate(cached, cached.stat().st_size - 1)
    third = call(*arguments, "--out", tmp_path / "third")
    assert third.json["feature_seconds"] > 0
    assert f"{cached} is damaged: deleted, its features are computed again" in third.stderr
    assert same_files(tmp_path / "first", tmp_path / "third")


def test_two_tasks_from_search_to_evaluation(call, runs, tmp_path):
    both = ("--paths", runs / "arc", "--paths", runs / "math")
    training = ("--method", "imitate", "--labels", "value", "--actors", 1, *QUICK)
    found = call("router", "train", *both, "--out", tmp_path / "r", *training, "--json").json
    assert [Path(row["folder"]).name for row in found["per_folder"]] == ["arc", "math"]
    assert found["questions"] + found["dev_questions"] == 32
    evaluated = call("router", "evaluate", "--router", tmp_path / "r", *both, "--json").json
    assert evaluated["dev_questions"] == 32
    assert set(evaluated["per_class"]) == {"skip", "execute", "repeat"}
    shown = call("router", "show", tmp_path / "r")
    assert "arc, math" in shown.stdout


def test_what_pathgen_static_finds_is_deployed(call, runs, tmp_path):
    call("pathgen", "static", "--paths", runs / "arc", "--out", tmp_path / "F.json")
    answer = call("router", "train", "--paths", runs / "arc", "--out", tmp_path / "r", "--static", tmp_path / "F.json")
    assert "static, static only: every question takes the same path" in answer.stdout
    assert "development questions: its accuracy here is flattered" in answer.stderr
