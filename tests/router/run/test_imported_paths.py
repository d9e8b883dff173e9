"""Paths that another program searched are trained on like our own."""

from __future__ import annotations

import json

import pytest
from commands import pathgen
from router_commands import IMITATE, fill_features, router

TRAIN = ("--device", "cpu", "--quiet", "--tracker", "none")
pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.mark.parametrize("format_name", ["dr-llm", "polar"])
def test_a_router_is_trained_on_an_import(paths, tiny_model, tmp_path, format_name):
    file, run = tmp_path / "theirs.json", tmp_path / "run"
    assert pathgen("export", paths, "--format", format_name, "--out", file).code == 0
    assert (
        pathgen("import", file, *("--format", format_name, "--task", "arc", "--model", tiny_model, "--out", run)).code
        == 0
    )
    fill_features(str(run), tiny_model)
    answer = router("train", "--paths", run, "--out", tmp_path / "router", *IMITATE, "--json")
    assert answer.code == 0
    assert answer.json["questions"] > 0
    refused = router("train", "--paths", run, "--out", tmp_path / "other", *IMITATE, "--labels", "value")
    assert refused.code == 2
    assert "needs margins; use --labels shortest" in refused.stderr


@pytest.mark.parametrize(
    ("task", "lacks", "says"),
    [
        ("arc", {"choices", "gold"}, "choices, which task arc needs to ask them; give `choices` and `gold` of each"),
        ("math", {"choices", "gold", "best_response"}, "right answer, which task math needs to ask them; give"),
    ],
)
def test_what_was_imported_without_its_answers_is_refused_before_a_model_loads(
    paths, tiny_model, tmp_path, monkeypatch, task, lacks, says
):
    """As Dr.LLM writes a file: its trainer needs no choices, but whoever evaluates does."""
    file, run = tmp_path / "theirs.json", tmp_path / "run"
    assert pathgen("export", paths, "--format", "dr-llm", "--out", file).code == 0
    content = {name: column for name, column in json.loads(file.read_text()).items() if name not in lacks}
    file.write_text(json.dumps(content | {"dataset": "arc_easy"}))
    imported = ("--format", "dr-llm", "--task", task, "--model", tiny_model, "--out", run)
    assert pathgen("import", file, *imported).code == 0
    trained = tmp_path / "router"
    assert router("train", "--paths", paths, "--out", trained, *TRAIN).code == 0

    def refuse(*args, **kwargs):
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    line = f"{run}: 24 of 24 questions were imported without {says}"
    new = ("--out", tmp_path / "other", *TRAIN)
    for answer in (
        *(router("train", "--paths", run, *new, "--method", method) for method in ("static", "imitate", "gates")),
        router("evaluate", "--router", trained, "--paths", run),
        pathgen("static", "--paths", run, "--out", tmp_path / "static.json"),
    ):
        assert (answer.code, line in answer.stderr) == (2, True), answer.stderr
