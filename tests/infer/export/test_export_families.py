"""An exported folder, loaded by plain transformers, is the model along the path: every family that runs."""

from __future__ import annotations

import json

import pytest
import torch
from exports import COUNTING, VARIANTS, export, gap, plain, save_family
from families import FAMILIES, PROMPTS, padded

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.paths.layer_path import LayerPath

PATHS = ("2.-2",)
"""Each repeats and skips layers of different kinds, in every family that has several."""
NEW_TOKENS = 12


@pytest.fixture(scope="module", params=[*FAMILIES, *VARIANTS])
def base(request, tmp_path_factory):
    """A family's folder, its model, and its name."""
    folder = save_family(tmp_path_factory.mktemp(request.param) / "base", request.param)
    return folder, PathModel.from_pretrained(str(folder))


@pytest.mark.parametrize("text", PATHS)
def test_the_folder_gives_the_logits_and_the_tokens_of_the_path(base, tmp_path, text):
    folder, model = base
    path = LayerPath.parse(text)
    answer = export("--path", text, "--model", folder, "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json
    assert (found["path"], found["depth"], found["model"]) == (list(path), path.depth, str(folder))
    assert found["max_logit_gap"] <= 1e-4
    assert found["divergence"] > 1e-3
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert path.depth in (config.get("num_hidden_layers"), config.get("n_layer"))

    exported = plain(tmp_path / "out")
    assert sum(parameter.numel() for parameter in exported.parameters()) == found["parameters"]
    for side in ("left", "right"):
        assert gap(exported, model, path, *padded(PROMPTS, side)) <= 1e-4
    ids, mask = padded(PROMPTS, "left")
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.inference_mode():
        tokens = exported.generate(input_ids=ids, attention_mask=mask, use_cache=True, **settings)
    wanted = model.generate(ids, mask, policy=FixedPaths([path] * len(ids)), **settings)
    assert torch.equal(tokens, wanted)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "gpt2_inverse",
            "its layers compute layer.attn.scaling from their number, so layer 0 would change as number 1",
        ),
        ("ernie_interval", "its layers compute layer.mlp, a class from their number"),
    ],
)
def test_a_family_whose_layers_depend_on_their_number_is_refused_by_name(tmp_path, name, reason):
    assert name in COUNTING
    folder = save_family(tmp_path / "base", name)
    answer = export("--path", "2.-.", "--model", folder, "--out", tmp_path / "out")
    assert answer.code == 2
    assert answer.error.startswith(f"{folder} along 2.-. cannot be exported: {reason}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["base"]
    whole = export("--path", "....", "--model", folder, "--out", tmp_path / "out", "--json")
    assert whole.json["divergence"] == pytest.approx(0, abs=1e-6)  # in its own place each layer is what it was
