"""`pathgen generate` for real: its own process, Ray, actors. Few runs, each of which shows many things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from commands import Answer, pathgen
from path_records import METADATA, no_guard
from safetensors.torch import load_file, save_file
from tiny_checkpoint import NUM_LAYERS, save_tiny_model

from pathgen.store.run_folder import RunDirectory
from pathgen.store.shards import commit_table

pytestmark = pytest.mark.ray

SECRETS = {"HF_TOKEN": "hf_4f1c9", "WANDB_API_KEY": "wandb-77e1", "AWS_SECRET_ACCESS_KEY": "aws/3d05"}
POISON = "~"
"""The character whose embedding is NaN."""
ROWS: list[dict[str, Any]] = [
    {"qid": "short", "stem": "Which floats?", "choices": ["cork", "lead"], "answer": "cork"},
    {"qid": "poison", "stem": f"Which {POISON} floats?", "choices": ["cork", "lead"], "answer": "cork"},
    {"qid": "long", "stem": "Which floats? " * 50, "choices": ["cork", "lead"], "answer": "cork"},
    {"qid": "equal", "stem": "Which sinks?", "choices": ["lead", "cork", "lead"], "answer": 2},
    *({"qid": f"q{i}", "stem": f"{i} and {i}?", "choices": [f"{i}{i}", i, "no"], "answer": 0} for i in "1234"),
]
SEARCHED = sorted({row["qid"] for row in ROWS} - {"poison", "long"})


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What the processes get: secrets, and a place for Ray's token."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text("0" * 64)
    return os.environ | SECRETS | {"RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def generate(environment):
    """Runs `pathgen generate` in a process of its own."""

    def run(*arguments, **variables):
        command = [sys.executable, "-m", "pathgen", "generate", *map(str, arguments), "--json"]
        process = subprocess.run(command, capture_output=True, text=True, env=environment | variables, timeout=200)
        return Answer(process.returncode, process.stdout, process.stderr)

    return run


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """A tiny model with one embedding of NaN."""
    folder = save_tiny_model(tmp_path_factory.mktemp("poisoned"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][vocabulary[POISON]] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@dataclass(frozen=True)
class History:
    """Three calls on one folder, and its rows after each."""

    out: Path
    arguments: tuple[object, ...]
    answers: list[Answer]
    rows: list[pl.DataFrame]


@pytest.fixture(scope="module")
def history(tmp_path_factory, generate, poisoned):
    """A first call; more simulations; and again, after all shards but one were damaged."""
    folder = tmp_path_factory.mktemp("history")
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    out = folder / "run"
    columns = ("--columns", "id=qid,prompt=stem")
    arguments: tuple[object, ...] = ("--model", poisoned, "--questions", folder / "q.jsonl", *columns, "--out", out)
    arguments += ("--quiet", "--in-flight", 3, "--cost", "flops")
    answers = [generate(*arguments, "--simulations", 6)]
    rows = [pl.read_parquet(out / "paths")]

    arguments = (*arguments, "--simulations", 12)
    answers.append(generate(*arguments, "--allow-failures", 0.25))
    rows.append(pl.read_parquet(out / "paths"))

    damage_three_of_four(RunDirectory(str(out)))
    answers.append(generate(*arguments, "--allow-failures", 0.25))
    rows.append(pl.read_parquet(out / "paths"))
    return History(out, arguments, answers, rows)


def damage_three_of_four(run):
    """Split the searched rows over four shards, two to the first; truncate, empty and flip a bit of the others."""
    table, metadata = run.committed.table(), replace(METADATA, fingerprint=run.info().fingerprint)
    old = list(Path(run.paths).iterdir())
    spoilers = (lambda d: d, lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[:99] + bytes([d[99] ^ 1]) + d[100:])
    searched = [row for row, status in enumerate(table["status"].to_pylist()) if status != "failed"]
    for number, (rows, spoil) in enumerate(
        zip((searched[:2], searched[2:4], searched[4:5], searched[5:]), spoilers, strict=True)
    ):
        part = table.take(rows).replace_schema_metadata(metadata.key_values())
        name = commit_table(run.fs, run.paths, f"part{number}", 0, part, no_guard)
        shard = Path(run.paths) / name
        shard.write_bytes(spoil(shard.read_bytes()))
    for file in old:
        file.unlink()


def test_questions_that_fail_are_records_with_a_reason_and_the_run_goes_on(history):
    first, rows = history.answers[0], history.rows[0]
    assert first.code == 3, first.stderr
    assert sorted(rows["question_id"]) == sorted(row["qid"] for row in ROWS)
    failed = dict(rows.filter(pl.col("status") == "failed")["question_id", "error"].iter_rows())
    assert failed.keys() == {"poison", "long"}
    assert "NaN" in failed["poison"]
    assert "context is 512" in failed["long"]
    assert first.json["failed"] == 2
    shown = pathgen("show", history.out, "long")
    assert "context is 512" in shown.stdout


def test_stderr_holds_our_own_lines_alone(history):
    warning, gold, remark = history.answers[0].stderr.splitlines()
    assert "1 of 8 questions have equal choices (first: line 4); only the first of equal choices is used" in warning
    assert gold.endswith("answers are indices from 0 and texts of choices")
    assert remark.startswith("2 of 8 questions failed (long, poison)")
    assert history.rows[0].filter(pl.col("question_id") == "equal")["gold"].item() == 0


def test_the_json_agrees_with_the_shards(history):
    found, rows = history.answers[0].json, history.rows[0].filter(pl.col("status") != "failed")
    solved = rows.filter(pl.col("status") != "unsolved")
    assert (found["out"], found["num_layers"], found["actors"]) == (str(history.out), NUM_LAYERS, 1)
    assert (found["questions"], found["searched"], found["done_before"], found["continued"]) == (6, 6, 0, 0)
    assert found["solved"] == solved.height
    assert found["solved_rate"] == pytest.approx(solved.height / 6)
    assert found["base_accuracy"] == pytest.approx(rows["base_correct"].mean())
    assert found["mean_best_depth"] == pytest.approx(solved["best_depth"].mean())
    assert found["simulations"] == rows["simulations"].sum() == 6 * 6
    depths = rows.select(pl.col("evaluations").list.eval(pl.element().struct["path"].list.sum()).list.sum())
    # The poisoned question's full path was run as well, before it failed.
    assert found["layer_executions"] == depths.sum().item() + NUM_LAYERS
    assert rows["layers_run"].sum() <= found["layers_run"] < found["token_layers"]
    assert 0 < found["search_seconds"] < found["wall_seconds"]
    assert found["questions_per_second"] == pytest.approx(6 / found["search_seconds"])


def test_more_simulations_continue_what_is_there(history):
    second, rows = history.answers[1], history.rows[1]
    assert second.code == 0, second.stderr
    found = second.json
    assert (found["done_before"], found["searched"], found["continued"], found["simulations"]) == (0, 6, 6, 36)
    assert rows.filter(pl.col("status") != "failed")["simulations"].to_list() == [12] * 6
    # Failed questions were tried again, and failed again.
    assert rows.filter(pl.col("status") == "failed")["attempts"].to_list() == [2, 2]
    # The first six simulations stand as they were.
    before, after = ({row["question_id"]: row for row in table.iter_rows(named=True)} for table in history.rows[:2])
    for question_id in SEARCHED:
        kept = before[question_id]["evaluations"]
        assert after[question_id]["evaluations"][: len(kept)] == kept


def test_damaged_shards_are_quarantined_and_their_questions_searched_again(history):
    third, rows = history.answers[2], history.rows[2]
    assert third.code == 0, third.stderr
    warnings = [line for line in third.stderr.splitlines() if ".quarantine" in line]
    assert [f"part-part{number}-" in line for number, line in enumerate(warnings, start=1)] == [True] * 3
    assert len(list((history.out / ".quarantine").glob("*.parquet"))) == 3
    assert (third.json["done_before"], third.json["searched"], third.json["continued"]) == (2, 4, 0)
    assert sorted(rows["question_id"]) == sorted(row["qid"] for row in ROWS)

    # The same searches find the same paths.
    columns = ["question_id", "status", "best_path", "simulations"]
    before, after = (table.filter(pl.col("status") != "failed").select(columns) for table in history.rows[1:])
    assert before.sort("question_id").equals(after.sort("question_id"))


def test_evaluations_run_again_are_the_same_and_loading_a_model_shows_no_bar(history, environment):
    command = [sys.executable, "-m", "pathgen", "validate", str(history.out), "--replay", "40", "--json"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    report = json.loads(process.stdout)
    assert (process.returncode, process.stderr, report["problems"]) == (0, "", [])
    assert (report["replayed"], report["verdicts_changed"]) == (40, 0)


def test_a_measured_cost_is_kept(history):
    stored = json.loads((history.out / "run.json").read_text())
    assert stored["settings"]["cost"] == "flops"
    assert stored["notes"] == {"cost": {"name": "flops", "weights": [1.0] * NUM_LAYERS, "skips": []}}


def test_a_finished_run_called_again_starts_nothing(history, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("Ray must not be started")

    monkeypatch.setattr("pathgen.actors.fleet_run.connect", refuse)
    arguments = ("generate", *history.arguments, "--no-retry-failed", "--json")
    answer = pathgen(*arguments)
    assert answer.code == 3
    found = answer.json
    assert (found["done_before"], found["searched"], found["questions_per_second"]) == (6, 0, None)
    assert (found["questions"], found["failed"], found["simulations"]) == (6, 2, 0)
    assert pathgen(*arguments, "--allow-failures", "0.25").code == 0
    # A lower wish finds the questions done as well.
    assert pathgen(*arguments, "--simulations", "5").json["done_before"] == 6


def test_stats_agree_with_the_shards(history):
    found, rows = pathgen("stats", history.out, "--json").json, history.rows[2]
    assert (found["total"], found["done"], found["failed"]) == (8, 6, 2)
    for status in ("improved", "kept", "unsolved"):
        assert found[status] == rows.filter(pl.col("status") == status).height
    paths = rows["best_path"].drop_nulls().to_list()
    by_layer = [[path[layer] for path in paths] for layer in range(NUM_LAYERS)]
    assert found["action_counts"] == [[actions.count(action) for action in (0, 1, 2)] for actions in by_layer]
    assert found["layer_executions"] == rows["layer_executions"].sum()
    assert not found["under_way"]


def test_no_secret_reaches_the_folder(history):
    files = [file for file in history.out.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        for name, secret in SECRETS.items():
            assert secret.encode() not in content, f"{name} in {file}"


def test_latency_is_measured_once(tmp_path, generate, tiny_model):
    arguments = ("--model", tiny_model, "--limit", 3, "--cost", "latency", "--quiet", "--out", tmp_path / "run")
    stored = tmp_path / "run" / "run.json"
    assert generate(*arguments, "--simulations", 4).code == 0
    notes = json.loads(stored.read_text())["notes"]
    assert notes["cost"]["name"] == "latency"
    assert sum(notes["cost"]["weights"]) == pytest.approx(NUM_LAYERS)
    assert "not reproducible" in notes["determinism"]

    assert generate(*arguments, "--simulations", 8).json["continued"] == 3
    assert json.loads(stored.read_text())["notes"] == notes  # another measurement would give other figures
    assert pathgen("validate", tmp_path / "run").code == 0
