"""LoRA adapters as models: merged once into a folder; what cannot be merged is one line."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import save_tiny_model

from pathgen.errors import InputError
from pathgen.models.facts import fingerprint
from pathgen.models.loading import load_model
from pathgen.models.resolving import resolve_model

FIND = importlib.util.find_spec
RANK, ALPHA = 2, 8
TARGETS = {"q_proj": (32, 32), "down_proj": (64, 32)}
"""Module -> what its inputs and outputs are."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def merging():
    """For tests that merge."""
    pytest.importorskip("peft")


@pytest.fixture
def named_peft(monkeypatch):
    """As if peft were installed, for what is refused before it is needed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: name == "peft" or FIND(name, *more))


def write_adapter(folder, base, *, layers=6, seed=0, **changes):
    """An adapter as peft writes one."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": sorted(TARGETS),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    torch.manual_seed(seed)
    weights = {}
    for layer in range(layers):
        for module, (inputs, outputs) in TARGETS.items():
            part = "self_attn" if module == "q_proj" else "mlp"
            name = f"base_model.model.model.layers.{layer}.{part}.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, inputs)
            weights[f"{name}.lora_B.weight"] = torch.randn(outputs, RANK)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def refused(name):
    with pytest.raises(InputError) as caught:
        resolve_model(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_weights_are_the_base_s_and_the_adapter_s(merging, tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "tuned", tiny_model)
    found = load_model(str(adapter))[0].state_dict()
    base = load_model(str(tiny_model))[0].state_dict()
    held = load_file(adapter / "adapter_model.safetensors")
    assert set(found) == set(base)
    for name, value in base.items():
        if any(module in name for module in TARGETS):
            down, up = (held[f"base_model.model.{name.removesuffix('weight')}lora_{x}.weight"] for x in "AB")
            value = value + ALPHA / RANK * up @ down
        assert torch.allclose(found[name], value, atol=1e-6), name


def test_it_is_merged_once_into_a_plain_folder(merging, tiny_model, tmp_path, cache, caplog):
    adapter = write_adapter(tmp_path / "tuned", tiny_model)
    first = resolve_model(str(adapter))
    assert f"{adapter} merged into {tiny_model}" in caplog.text
    caplog.clear()
    assert resolve_model(str(adapter)) == first
    assert not caplog.records
    assert first.parent == cache
    assert first.name.startswith("tuned-")
    assert json.loads((first / "converted_from.json").read_text())["base"] == str(tiny_model)
    assert fingerprint(first) != fingerprint(tiny_model)


def test_another_adapter_or_another_base_is_another_model(merging, tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "tuned", tiny_model)
    first = resolve_model(str(adapter))
    write_adapter(adapter, tiny_model, seed=1)
    second = resolve_model(str(adapter))
    write_adapter(adapter, save_tiny_model(tmp_path / "base", seed=5), seed=1)
    third = resolve_model(str(adapter))
    assert len({fingerprint(folder) for folder in (first, second, third)}) == 3


def test_a_base_is_any_model_one_beside_the_adapter_included(merging, tiny_model, tmp_path):
    from tiny_gguf import save_tiny_gguf

    adapter = write_adapter(tmp_path / "tuned", "base.gguf", layers=3)
    save_tiny_gguf(adapter / "base.gguf")
    assert resolve_model(str(adapter)).name.startswith("tuned-")


def test_the_adapter_s_own_tokenizer_is_taken(merging, tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "tuned", tiny_model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, adapter)
    (adapter / "chat_template.jinja").write_text("{{ 'own' }}")
    assert load_model(str(adapter))[1].chat_template == "{{ 'own' }}"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"layers": 9}, "12 tensors stand on one side only: base_model.model.model.layers.6"),
        ({"layers": 4}, "8 tensors stand on one side only: base_model.model.model.layers.4"),
        ({"target_modules": ["zork"]}, "zork"),
        ({"r": 5}, "size mismatch"),
    ],
)
def test_an_adapter_of_another_base_is_one_line(merging, tiny_model, tmp_path, cache, how, says):
    line = refused(write_adapter(tmp_path / "tuned", tiny_model, **how))
    assert f"does not fit its base {tiny_model}" in line
    assert says in line
    assert not list(cache.glob("*/config.json"))


def test_without_peft_it_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "peft" else FIND(name, *more))
    line = refused(write_adapter(tmp_path / "tuned", tiny_model))
    assert line.endswith("needs peft: pip install 'layerpaths[adapters]'")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "holds an adapter of type PROMPT_TUNING; only LORA is merged"),
        ({"base_model_name_or_path": None}, "does not name its base"),
        ({"base_model_name_or_path": "/none/such"}, "model '/none/such' is no alias"),
    ],
)
def test_adapters_that_are_not_merged(named_peft, tiny_model, tmp_path, how, says):
    assert says in refused(write_adapter(tmp_path / "tuned", tiny_model, **how))


def test_an_adapter_on_an_adapter_is_refused(named_peft, tmp_path):
    folder = tmp_path / "tuned"
    assert "is an adapter too; merge that one first" in refused(write_adapter(folder, folder))


def test_files_that_are_damaged_or_missing(named_peft, tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "tuned", tiny_model)
    (adapter / "adapter_model.safetensors").unlink()
    assert "holds no adapter_model.safetensors" in refused(adapter)
    (adapter / "adapter_config.json").write_text("[]")
    assert "is not an adapter's config" in refused(adapter)
