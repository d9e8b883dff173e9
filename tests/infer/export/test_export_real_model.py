"""The small real model along a path, exported, and loaded by a process that does not know this project."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from exports import export

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
PATH = LayerPath.parse("........-....2......-.........")
PROMPT = "Question: Which of these floats on water?\nAnswer: a"
ELSEWHERE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = tokenizer(sys.argv[2], return_tensors="pt").input_ids
with torch.inference_mode():
    logits = model(input_ids=ids).logits[0, -1]
tokens = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
ours = {"pathgen", "router", "infer", "cluster"} & set(sys.modules)
print(json.dumps({"logits": logits.tolist(), "tokens": tokens.tolist(), "ours": sorted(ours)}))
"""


def test_the_exported_model_is_the_path(tmp_path):
    out = tmp_path / "out"
    answer = export("--path", PATH, "--model", MODEL, "--out", out, "--json")
    assert answer.code == 0, answer.stderr
    assert answer.json["depth"] == 29
    assert answer.json["max_logit_gap"] <= 1e-3  # of logits up to about 30
    assert 0 < answer.json["divergence"] < 5

    command = [sys.executable, "-c", ELSEWHERE, str(out), PROMPT]
    elsewhere = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert elsewhere["ours"] == []
    base = PathModel.from_pretrained(MODEL)
    assert base.tokenizer is not None
    ids = base.tokenizer(PROMPT, return_tensors="pt").input_ids
    logits = base.logits(ids, policy=FixedPaths([PATH]))[0, -1]
    scale = max(1.0, float(logits.abs().max()))
    assert float((torch.tensor(elsewhere["logits"]) - logits).abs().max()) <= 1e-4 * scale
    tokens = base.generate(ids, policy=FixedPaths([PATH]), max_new_tokens=12)
    assert elsewhere["tokens"] == tokens.tolist()
