"""The main job on the small real model: what `make demo` does, on a few questions, checked against a plain model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pathgen import FixedPaths, LayerPath, PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.identity import used_by
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.questions.loading import load_questions
from pathgen.questions.tasks import find_task

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
SIMULATIONS = 8


@pytest.fixture(scope="module")
def folder() -> Path:
    """Converts the model if no run has done so yet."""
    return resolve_model(MODEL)


@pytest.fixture(scope="module")
def model(folder) -> PathModel:
    return PathModel.from_pretrained(MODEL)


def plain_score(hf_model, tokenizer, prompt: str, choice: str) -> float:
    """Summed log-likelihood of a choice in nats, by one forward of the published model."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([tokenizer(f"{prompt} {choice}")["input_ids"]])
    with torch.inference_mode():
        logprobs = hf_model(ids).logits[0].log_softmax(-1)
    return sum(float(logprobs[at - 1, ids[0, at]]) for at in range(start, ids.shape[1]))


def test_full_depth_scores_are_the_published_model_s(folder, model):
    published = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    evaluator = Evaluator(model, find_task("arc"))
    assert evaluator.masks is not None  # choices are packed
    for question in load_questions("builtin:test", needs="choices", limit=4):
        (evaluation,) = evaluator.evaluate([(evaluator.prepare(question), LayerPath.full(30))])
        prompt = f"Question: {question.prompt}\nAnswer:"
        wanted = [plain_score(published, tokenizer, prompt, choice) for choice in question.choices]
        assert evaluation.choice_scores == pytest.approx(wanted, abs=1e-3)


def test_a_batch_of_paths_generates_what_each_row_alone_does(model):
    paths = [LayerPath.full(30), LayerPath([0] + [1] * 29), LayerPath([1] * 15 + [0] * 4 + [1] * 10 + [2])]
    rows = [model.tokenizer(text)["input_ids"] for text in ("The sky is", "Two plus two is", "Water boils when it is")]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    together = model.generate(ids, mask, policy=FixedPaths(paths), max_new_tokens=8, min_new_tokens=8)
    for row, path, got in zip(rows, paths, together, strict=True):
        alone = model.generate(torch.tensor([row]), policy=FixedPaths([path]), max_new_tokens=8, min_new_tokens=8)
        assert got[width:].tolist() == alone[0, len(row) :].tolist()


@pytest.mark.ray
def test_the_main_job(folder, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "pathgen", "generate", "--out", str(out), "--limit", "6", "--json"]
    command += ["--simulations", str(SIMULATIONS), "--threads-per-actor", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["questions"], summary["searched"], summary["num_layers"]) == (6, 6, 30)

    rows = pl.read_parquet(f"{out}/paths/*.parquet")
    assert sorted(rows["question_id"]) == sorted(q.id for q in load_questions("builtin", needs="choices", limit=6))
    assert all(len(found) == SIMULATIONS + 1 for found in rows["evaluations"])
    assert summary["layers_run"] < summary["layer_executions"]  # paths share what they have in common
    assert datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"].num_rows == 6

    validated = [sys.executable, "-m", "pathgen", "validate", str(out), "--replay", "8", "--json"]
    report = json.loads(subprocess.run(validated, capture_output=True, text=True, check=True).stdout)
    assert report["valid"]
    assert report["largest_gap_nats"] < 1e-3
    used = used_by(fingerprint(folder), chat=False, generates=False)
    assert json.loads((out / "run.json").read_text())["model"]["fingerprint"] == used
