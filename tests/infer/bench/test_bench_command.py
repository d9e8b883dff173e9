"""`infer bench` at the terminal: one JSON object, one table, one line an error."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import torch
from bench_runs import SHORT, make_questions, save_static_router, write_questions, write_searched_run
from rich.console import Console
from typer.testing import CliRunner

from infer.bench import bench as bench_module
from infer.bench import timing as bench_timing
from infer.bench.options import SYSTEMS, parse_routers
from infer.bench.terminal import bench_text
from infer.cli import app
from pathgen.errors import InputError, PathgenError

OWN, OTHERS = make_questions("own", 6), make_questions("other", 5)


@pytest.fixture(autouse=True)
def _few_turns(monkeypatch):
    monkeypatch.setattr(bench_timing, "TURNS", 1)
    monkeypatch.setattr(bench_module, "TIMED_QUESTIONS", 1)


@pytest.fixture(scope="module")
def arguments(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    questions = write_questions(folder / "q.jsonl", OWN)
    router = save_static_router(folder / "router", tiny_model, SHORT)
    paths = write_searched_run(folder / "paths", tiny_model, OWN + OTHERS)
    return ["bench", "--model", tiny_model, "--questions", questions, "--router", router, "--paths", paths, "--quiet"]


def infer(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_json_is_all_of_stdout_and_the_report_is_written(arguments, tmp_path):
    found = infer(*arguments, "--json", "--report", tmp_path / "bench.html", "--out", tmp_path / "out")
    assert found.exit_code == 0
    bench = json.loads(found.stdout)
    assert list(bench) == [
        "model",
        "task",
        "questions",
        "seed",
        "seen_in_training",
        "num_layers",
        "batch_size",
        "environment",
        "settings",
        "systems",
    ]
    assert [system["name"] for system in bench["systems"]] == list(SYSTEMS)
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == bench
    page = (tmp_path / "bench.html").read_text()
    assert all(name in page for name in SYSTEMS)
    assert OWN[0].prompt in page


def test_a_report_that_cannot_be_written_is_the_one_object_on_stdout_and_out_keeps_the_figures(
    arguments, tmp_path, monkeypatch
):
    def full(*_):
        raise PathgenError("bench.html cannot be written (No space left on device)")

    monkeypatch.setattr("infer.report.page.put", full)
    more = ["--systems", "full", "--report", tmp_path / "bench.html", "--out", tmp_path / "out"]
    found = infer(*arguments, *more, "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout) == {
        "error": "bench.html cannot be written (No space left on device)",
        "exit_code": 1,
    }
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["systems"][0]["name"] == "full"
    assert infer(*arguments, *more).stdout.splitlines()[1].startswith("system")  # who reads sees the table all the same


def test_the_table_fits_a_terminal_and_shows_the_oracle_with_its_placebo(arguments, monkeypatch):
    shown = []
    monkeypatch.setattr("infer.bench.terminal.bench_text", shown.append)
    infer(*arguments, "--systems", "router,oracle,skip_gate")
    (bench,) = shown
    text = io.StringIO()
    bench_text(bench, Console(file=text, width=80, highlight=False))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text.getvalue()
    router = next(line for line in lines if line.startswith("router"))
    low, high = bench.systems[1].accuracy_ci95
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in router
    assert "4.00" in router
    assert any("oracle: upper bound, chosen with gold; " in line for line in lines)
    assert "or more, as its search looked for gold" in " ".join(text.getvalue().split())
    assert "skip_gate skipped: no router: give --router skip_gate=DIR" in text.getvalue()


def test_questions_left_out_are_told_by_the_exit_code(arguments, tmp_path):
    import dataclasses

    long = dataclasses.replace(OWN[0], id="long", prompt="x" * 600)
    questions = write_questions(tmp_path / "q.jsonl", [*OWN[:2], long])
    found = infer(*arguments, "--questions", questions, "--systems", "full")
    assert found.exit_code == 3
    assert "do not fit the model's context: 1" in found.stderr


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (["--systems", "full,magic"], 2, "error: unknown system 'magic'; systems are full, router,"),
        (["--batch-size", "0"], 2, "--batch-size"),
        (["--router", "x=nowhere/at/all"], 2, "there is no router folder"),
        (["--router", "oracle=somewhere"], 2, "'oracle' is another system's name"),
    ],
)
def test_wrong_use_is_one_line(arguments, more, code, text):
    found = infer(*arguments, *more, "--json")
    assert found.exit_code == code
    assert text in found.stderr
    assert found.stderr.count("\n") == 1
    assert json.loads(found.stdout)["exit_code"] == code


def test_a_device_that_is_too_small_names_the_batch(arguments, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("pathgen.evaluation.evaluator.Evaluator.evaluate", full)
    found = infer(*arguments, "--systems", "full")
    assert found.exit_code == 1
    assert "error: out of memory: CUDA out of memory; give a smaller --batch-size\n" in found.stderr


def test_options_can_come_from_a_file(arguments, tmp_path):
    (tmp_path / "bench.yaml").write_text("systems: router\nlimit: 2\n")
    bench = json.loads(infer(*arguments, "--config", tmp_path / "bench.yaml", "--json").stdout)
    assert [system["name"] for system in bench["systems"]] == ["full", "router"]
    assert bench["questions"] == 2


def test_questions_without_gold_are_refused(arguments, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "Which?", "choices": ["x", "y"]}\n')
    found = infer(*arguments, "--questions", tmp_path / "q.jsonl")
    assert found.exit_code == 2
    assert "gold" in found.stderr


def test_routers_are_read_with_and_without_a_name():
    assert parse_routers(["runs/a", "skip_gate=runs/g", "mine=runs/x=y"]) == {
        "router": "runs/a",
        "skip_gate": "runs/g",
        "mine": "runs/x=y",
    }
    assert parse_routers(["./a=b"]) == {"router": "./a=b"}
    with pytest.raises(InputError, match="two are called 'router'"):
        parse_routers(["a", "b"])


def test_help_loads_nothing_heavy():
    heavy = {"torch", "ray", "pyarrow", "polars", "transformers", "scipy"}
    code = f"import infer.cli, infer.bench.options, sys; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
