"""The weights of an exported path: every tensor as it is on disk, in files as large as allowed."""

from __future__ import annotations

import json

import pytest
import torch
from exports import export, gap, plain, save_family
from families import PROMPTS, padded
from safetensors.torch import load_file, save_file

from infer.export.weights import ONE_FILE, StoredTensor, along_path, stored_tensors
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath

PATH = LayerPath.parse("2.-2")


def tensors(*names: str) -> dict[str, StoredTensor]:
    return {name: StoredTensor(ONE_FILE, name, 4) for name in names}


def test_names_follow_the_path():
    found = along_path(
        tensors("wte.w", "h.0.a", "h.1.a", "h.1.h.0.b", "h.2.a", "h.3.a", "norm.w"), "transformer.h", PATH
    )
    assert {name: tensor.name for name, tensor in found.items()} == {
        "wte.w": "wte.w",
        "norm.w": "norm.w",
        "h.0.a": "h.0.a",
        "h.1.a": "h.0.a",
        "h.2.a": "h.1.a",
        "h.2.h.0.b": "h.1.h.0.b",
        "h.3.a": "h.3.a",
        "h.4.a": "h.3.a",
    }


def test_layers_beyond_the_last_are_left_out():
    names = [f"model.layers.{number}.a" for number in range(5)]
    found = along_path(tensors(*names), "model.layers", PATH)
    assert sorted(tensor.name for tensor in found.values()) == [names[0], names[0], names[1], names[3], names[3]]


@pytest.mark.parametrize(
    "names",
    [
        ["blocks.0.a", "blocks.1.a", "blocks.2.a", "blocks.3.a"],
        ["layers.0.a", "layers.1.a", "layers.3.a"],
        ["layers.0.a", "layers.1.a", "layers.2.a", "layers.3.a", "vision.layers.0.a"],
    ],
)
def test_names_that_do_not_tell_the_layer_are_refused(names):
    with pytest.raises(InputError, match="do not show which layer"):
        along_path(tensors(*names), "model.layers", PATH)


def test_many_files_become_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("infer.export.weights.SHARD_SIZE", "20KB")
    folder = save_family(tmp_path / "base", "llama", max_shard_size="15KB")
    answer = export("--path", PATH, "--model", folder, "--out", tmp_path / "out", "--json")
    assert answer.code == 0, answer.stderr
    out = tmp_path / "out"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in out.glob("*.safetensors"))
    assert len(files) > 2
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in stored_tensors(out).values())
    assert gap(plain(out), PathModel.from_pretrained(str(folder)), PATH, *padded(PROMPTS, "left")) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_stored_dtype_and_every_bit_stay(tmp_path, dtype):
    folder = save_family(tmp_path / "base", "mixtral")
    stored = {name: tensor.to(dtype) for name, tensor in load_file(folder / ONE_FILE).items()}
    save_file(stored, folder / ONE_FILE, {"format": "pt"})
    answer = export("--path", PATH, "--model", folder, "--out", tmp_path / "out", "--json")
    assert answer.json["max_logit_gap"] <= 1e-4
    found = load_file(tmp_path / "out" / ONE_FILE)
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    for place, layer in enumerate(PATH.executions):
        for name in (name for name in stored if name.startswith(f"model.layers.{layer}.")):
            assert torch.equal(found[name.replace(f".{layer}.", f".{place}.", 1)], stored[name])


def test_a_tied_head_stays_tied(tmp_path):
    folder = save_family(tmp_path / "base", "gemma2")
    export("--path", PATH, "--model", folder, "--out", tmp_path / "out")
    assert "lm_head.weight" not in stored_tensors(tmp_path / "out")
    model = plain(tmp_path / "out")
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"version https://git-lfs"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / ONE_FILE).write_bytes(content)
    with pytest.raises(InputError, match=f"{ONE_FILE} is missing, or no safetensors file"):
        stored_tensors(tmp_path)


def test_an_index_that_is_not_there_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match=r"neither model\.safetensors nor a readable"):
        stored_tensors(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(InputError, match=r"gone\.safetensors is missing"):
        stored_tensors(tmp_path)
