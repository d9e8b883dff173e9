"""The harness's own `hf` on an exported folder has the figures of `infer harness` on the router it is from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from exports import export
from harness_models import full_router
from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager
from typer.testing import CliRunner

from infer.cli import app
from pathgen.paths.layer_path import LayerPath
from router.net.router import path_logits
from router.saved.folder import save_router
from router.saved.loading import load_router

TASKS = Path(__file__).parents[1] / "harness" / "harness_tasks"
WORDS = ["--tasks", "local_arc,local_gsm8k", "--include_path", TASKS, "--batch_size", 4]


class LocalTasks(TaskManager):
    """Knows the tasks of --include_path only: reading the harness's own thousands takes ten seconds."""

    def __init__(self, **settings):
        super().__init__(**settings, include_defaults=False)


def results(stem: Path) -> dict:
    """The figures in the harness's result file of --output_path STEM.json."""
    return json.loads(next(stem.parent.glob(f"{stem.name}_*.json")).read_text())["results"]


def test_an_exported_static_router_has_the_router_s_figures(tiny_model, tmp_path, monkeypatch):
    router = load_router(full_router(tiny_model, tmp_path / "router"))
    with torch.no_grad():
        router.static_logits.copy_(path_logits(LayerPath.parse("-.2.-.")))
    save_router(router, tmp_path / "router")
    assert export("--router", tmp_path / "router", "--out", tmp_path / "out").code == 0

    monkeypatch.setattr("lm_eval.tasks.TaskManager", LocalTasks)
    monkeypatch.setattr(sys, "argv", sys.argv)
    routed = ["harness", "--model", tiny_model, "--router", tmp_path / "router", "--", *WORDS]
    routed += ["--output_path", tmp_path / "routed.json"]
    assert CliRunner().invoke(app, [str(word) for word in routed], catch_exceptions=False).exit_code == 0
    plain = ["--model", "hf", "--model_args", f"pretrained={tmp_path / 'out'},dtype=float32", "--device", "cpu"]
    words = ["lm-eval", "run", *plain, *WORDS, "--output_path", tmp_path / "plain.json"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    cli_evaluate()
    assert results(tmp_path / "plain") == results(tmp_path / "routed")
