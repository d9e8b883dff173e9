from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from harness_models import full_router, mixed_router
from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager
from tiny_checkpoint import NUM_LAYERS
from typer.testing import CliRunner

from infer.cli import app

TASKS = Path(__file__).parent / "harness_tasks"
LOCAL = sorted(file.stem for file in TASKS.glob("*.yaml"))
EVERY = ["--tasks", ",".join(LOCAL), "--include_path", TASKS]
ARC = ["--tasks", "local_arc", "--include_path", TASKS]
ROOT = Path(__file__).parents[3]


class LocalTasks(TaskManager):
    """Knows the tasks of --include_path only: reading the harness's own thousands takes ten seconds."""

    def __init__(self, **settings):
        super().__init__(**settings, include_defaults=False)


@pytest.fixture
def run(tiny_model, monkeypatch):
    """`infer harness` in this process; an exception that it does not answer for is raised here."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", LocalTasks)

    def call(router: object, *arguments: object, bias: float | None = None):
        words = ["harness", "--model", tiny_model, "--router", router]
        words += [*([] if bias is None else ["--bias", bias]), "--", *arguments]
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return call


@pytest.fixture(scope="module")
def full(tiny_model, tmp_path_factory):
    return full_router(tiny_model, tmp_path_factory.mktemp("full") / "router")


def error_of(result) -> str:
    """The line of stderr that tells the error; a progress bar may stand around it."""
    return re.search("error: (.*)", result.stderr)[1]


def written(stem: Path) -> dict:
    """The harness's result file of --output_path STEM.json."""
    return json.loads(next(stem.parent.glob(f"{stem.name}_*.json")).read_text())


def test_the_stand_ins_are_of_nine_benchmarks():
    names = ["agieval", "aime", "arc", "gpqa", "gsm8k", "mmlu", "piqa", "squadv2", "truthfulqa"]
    assert [f"local_{name}" for name in names] == LOCAL


def test_every_stand_in_runs_through_the_command(run, tiny_model, tmp_path):
    """The results are the harness's own table and file, which also tells how deep the rows ran."""
    router = mixed_router(tiny_model, tmp_path / "router")
    result = run(router, *EVERY, "--batch_size", 8, "--output_path", tmp_path / "out.json")
    assert result.exit_code == 0
    found = written(tmp_path / "out")
    assert sorted(found["results"]) == LOCAL
    for task in LOCAL:
        assert task in result.stdout
        asked = len((TASKS / f"{task.removeprefix('local_')}.jsonl").read_text().splitlines())
        assert found["n-samples"][task]["effective"] == asked
    assert found["config"]["num_layers"] == NUM_LAYERS
    assert 0 < found["config"]["mean_depth"] < 2 * NUM_LAYERS
    assert found["config"]["off_full_share"] > 0


def test_an_executing_router_scores_the_stand_ins_as_the_plain_model(run, tiny_model, full, tmp_path, monkeypatch):
    """Every figure, against the harness's own command with its own `hf`."""
    assert run(full, *EVERY, "--batch_size", 4, "--output_path", tmp_path / "routed.json").exit_code == 0
    plain = ["--model", "hf", "--model_args", f"pretrained={tiny_model},dtype=float32", "--device", "cpu"]
    words = ["lm-eval", "run", *plain, *EVERY, "--batch_size", 4, "--output_path", tmp_path / "plain.json"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    cli_evaluate()
    assert written(tmp_path / "routed")["results"] == written(tmp_path / "plain")["results"]


def test_the_bias_reaches_the_router(run, tiny_model, tmp_path):
    router = mixed_router(tiny_model, tmp_path / "router")
    assert run(router, *ARC, "--output_path", tmp_path / "out.json", bias=1e6).exit_code == 0
    assert written(tmp_path / "out")["config"]["mean_depth"] == 0


@pytest.mark.slow
def test_a_process_of_its_own_needs_no_setting_to_stay_off_the_network(tiny_model, full, tmp_path):
    """With the harness's own tasks known too, and a proxy that would break any request."""
    words = [sys.executable, "-m", "infer", "harness", "--model", tiny_model, "--router", full, "--", *EVERY]
    unset = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run([str(word) for word in words], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(task in done.stdout for task in LOCAL)


def test_without_the_extra_it_says_what_to_install(run, full, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "lm_eval" else found(name, *more)
    )
    result = run(full, "--tasks", "local_arc")
    assert result.exit_code == 2
    assert error_of(result).endswith("pip install 'layerpaths[harness]'")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tasks", "local_arc", "--model", "hf"], "--model after the --"),
        (["--tasks", "local_arc", "--model=hf"], "--model=hf after the --"),
        (["--tasks", "no_such_task"], "lm-evaluation-harness: Tasks not found: no_such_task"),
        (["--tasks", "local_arc", "--batch_size", "0"], "--batch_size must be a number from 1 on, or auto; got 0"),
        (["--tasks", "local_arc", "--model_args", "peft=x"], "model `routed` has no argument peft; it takes"),
        (["--tasks", "local_arc", "--model_args", "bias=nan"], "bias must be a finite number; got nan"),
        (["--tasks", "local_aime", "--gen_kwargs", "max_gen_toks=999"], "must be less than model's maximum sequence"),
    ],
)
def test_wrong_use_is_one_line(run, full, arguments, says):
    result = run(full, *arguments, "--include_path", TASKS)
    assert result.exit_code == 2
    assert says in error_of(result)


def test_a_bias_that_is_no_number_is_told_by_its_flag(run, full):
    result = run(full, *ARC, bias="nan")
    assert result.exit_code == 2
    assert error_of(result) == "--bias must be a finite number; got nan"


def test_a_router_that_is_not_there_is_named(run, tmp_path):
    result = run(tmp_path / "none", *ARC)
    assert result.exit_code == 2
    assert f"there is no router folder {tmp_path / 'none'}" in error_of(result)


def test_a_benchmark_out_of_reach_is_one_line(run, full, tmp_path):
    """A task whose data are nowhere: as a hub that does not answer."""
    (tmp_path / "lost.yaml").write_text(
        f"task: lost\ndataset_path: json\ndataset_kwargs: {{data_files: {tmp_path}/none.jsonl}}\n"
        "test_split: train\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: 0\ndoc_to_choice: [a, b]\n"
    )
    result = run(full, "--tasks", "lost", "--include_path", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}/none.jsonl" in error_of(result)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("def to_text(doc): return {}['absent']", "KeyError: 'absent'"),
        (
            "def to_text(doc): raise RuntimeError('Dataset scripts\\nare not supported')",
            "RuntimeError: Dataset scripts",
        ),
    ],
)
def test_a_task_whose_own_code_fails_is_one_line(run, full, tmp_path, code, says):
    (tmp_path / "own.py").write_text(f"{code}\n" + ("" if "def" in code else "def to_text(doc): return 'q'\n"))
    (tmp_path / "data.jsonl").write_text('{"q": "a"}\n')
    (tmp_path / "own.yaml").write_text(
        f"task: own\ndataset_path: json\ndataset_kwargs: {{data_files: {tmp_path}/data.jsonl}}\n"
        "test_split: train\noutput_type: multiple_choice\ndoc_to_text: !function own.to_text\n"
        "doc_to_target: 0\ndoc_to_choice: [a, b]\n"
    )
    result = run(full, "--tasks", "own", "--include_path", tmp_path)
    assert result.exit_code == 2
    assert f"lm-evaluation-harness: {says}" in error_of(result)


def test_a_device_that_is_too_small_names_the_batch(run, full, monkeypatch):
    def full_device(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("infer.harness.model.continuation_logits", full_device)
    result = run(full, *ARC)
    assert result.exit_code == 1
    assert error_of(result) == "out of memory: CUDA out of memory; give a smaller --batch_size"


def test_an_error_of_our_own_is_not_taken_for_the_harness_s(run, full, monkeypatch):
    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr("infer.harness.model.continuation_logprobs", broken)
    result = run(full, *ARC)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "ValueError: a bug"
