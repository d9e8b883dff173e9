"""Paths that another program searched are trained on like our own."""

from __future__ import annotations

import pytest
from commands import pathgen
from router_commands import IMITATE, fill_features, router

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
