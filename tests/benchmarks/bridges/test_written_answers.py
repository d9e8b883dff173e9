"""Answers written along paths over bridges, and what each layer costs them, against stock generation."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.bridges import generation, layer_costs
from pathgen.bridges.folder import save_bridges
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath

TEMPLATE = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}{% if add_generation_prompt %}={% endif %}"


@pytest.fixture
def chat_model(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "chat_model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_answers_and_what_layers_cost(chat_model, tmp_path, capsys):
    bridges = tmp_path / "bridges"
    save_zero_bridges(chat_model, bridges)
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"id": f"s{n}", "question": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in (3, 14))
    )
    (tmp_path / "letters.jsonl").write_text(
        json.dumps({"id": "l", "question": "Which?", "choices": ["one", "two"], "answer": "A"}) + "\n"
    )
    asked = {
        "model": str(chat_model),
        "questions": str(tmp_path / "sums.jsonl"),
        "bridges": bridges,
        "path": ["5=..-..."],
        "out": tmp_path / "answers.jsonl",
        "max_new_tokens": 12,
        "together": 1,
    }
    generation.run(**asked)
    before = (tmp_path / "answers.jsonl").read_text()
    (tmp_path / "answers.jsonl").write_text(before.splitlines()[0] + '\n{"id": "s1')  # killed while it wrote
    generation.run(**asked)
    entries = generation.read(tmp_path / "answers.jsonl")
    assert entries == [json.loads(line) for line in before.splitlines()]
    for entry, n in zip(entries, (3, 14), strict=True):
        assert entry["answers"]["full"]["text"] == stock_answer(chat_model, f"<{n} + 1?\n{generation.ASK}>=")
    capsys.readouterr()

    costs = {
        "model": str(chat_model),
        "bridges": bridges,
        "letters": str(tmp_path / "letters.jsonl"),
        "written": str(tmp_path / "sums.jsonl"),
        "answers": tmp_path / "answers.jsonl",
        "path": ["..--.."],
        "limit": 1,
        "out": tmp_path / "costs.jsonl",
    }
    layer_costs.run(**costs)
    found = layer_costs.read(tmp_path / "costs.jsonl")
    assert len(found) == 2 * (6 + 1)
    model = PathModel.from_pretrained(str(chat_model))
    prompt = model.tokenizer(f"<Question: 3 + 1?\n{generation.ASK}\nAnswer:>=", add_special_tokens=False)["input_ids"]
    answer = model.tokenizer(entries[0]["answers"]["full"]["text"], add_special_tokens=False)["input_ids"]
    for path in ("..-...", "..--.."):  # bridges of zero leave the states as skips do
        logits = [
            model.logits(torch.tensor([prompt + answer]), policy=FixedPaths([LayerPath.parse(one)])).log_softmax(-1)
            for one in ("......", path)
        ]
        full, other = (each[0, len(prompt) - 1 : -1] for each in logits)
        wanted = (full.exp() * (full - other)).sum(-1).mean()
        np.testing.assert_allclose(found["written", "s3", path], float(wanted), rtol=1e-3)
    assert "2, 3" in capsys.readouterr().out


def save_zero_bridges(folder, out):
    """Bridges that change nothing."""
    maps = tuple(Bridge(torch.zeros(1, 32), torch.zeros(32, 1), torch.zeros(32)) for _ in range(6))
    info = BridgesInfo(str(folder), fingerprint(folder), 6, 32, 1, 0.1, (), 9, (0.0,) * 6, "")
    save_bridges(Bridges(maps), info, out)


def stock_answer(folder, prompt):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        new = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True)
