"""Models that do not load, or not whole: each is one line, and none is made whole with random weights."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch

import pytest
import torch
from families import tiny
from safetensors.torch import load_file, save_file
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pathgen.errors import InputError, PathgenError
from pathgen.models.facts import fingerprint, layer_parameters
from pathgen.models.loading import load_model
from pathgen.models.reading import load_config, load_tokenizer, load_weights
from pathgen.models.resolving import resolve_model


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model, to be damaged."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def drop_weights(folder, part):
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if part not in name}
    save_file(kept, file, {"format": "pt"})


def refusal(call, *arguments, **more):
    """The one line that is said of them."""
    with pytest.raises(InputError) as caught:
        call(*map(str, arguments), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("lm_head", "lack 1 tensors, first lm_head.weight"),
        (".layers.3.", "lack 9 tensors, first model.layers.3.input_layernorm.weight, model.layers.3.mlp.down_proj"),
    ],
)
def test_weights_that_are_missing_are_not_drawn_at_random(folder, part, says):
    drop_weights(folder, part)
    assert f"the weights in {folder} {says}" in refusal(load_model, folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_tied_to_the_embeddings_is_not_missing(folder, dtype):
    drop_weights(folder, "lm_head")
    edit_config(folder, tie_word_embeddings=True)
    model, _ = load_model(str(folder), dtype=dtype)
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "opt", "falcon", "gpt_oss", "phi3"])
def test_a_family_s_checkpoint_is_whole(tmp_path, family):
    """Where heads are tied or a family lists weights that may be missing."""
    model = tiny(family)
    model.save_pretrained(tmp_path)
    loaded = load_weights(tmp_path, dtype=torch.float32)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.model
def test_the_alias_s_weights_are_whole(tmp_path):
    load_weights(resolve_model("smollm2-135m"), dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "zork"}, "does not load (ValueError: The checkpoint you are trying to load has model type"),
        ({"hidden_act": "zork"}, "does not load (KeyError: 'zork')"),
        ({"num_attention_heads": 5}, "is not a multiple of the number of attention heads (5)"),
        ({"num_attention_heads": 0}, "does not load (ZeroDivisionError"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "does not load (ImportError"),
        ({"intermediate_size": 48}, "model.layers.0.mlp.down_proj.weight is [32, 64], not [32, 48]"),
        ({"architectures": "LlamaForCausalLM"}, "config.json is not a model config"),
        ({"model_type": ["llama"]}, "config.json is not a model config"),
    ],
)
def test_configs_that_cannot_be_loaded(folder, changes, says):
    edit_config(folder, **changes)
    line = refusal(load_model, folder)
    assert str(folder) in line
    assert says in line


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"[]", "config.json is not a model config: an object with a model_type"),
        ("config.json", b"[" * 100_000, "cannot be read as JSON"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0notjson!", "does not load (SafetensorError"),
        ("tokenizer.json", b"{}", "the tokenizer in"),
    ],
)
def test_files_that_are_damaged(folder, name, content, says):
    (folder / name).write_bytes(content)
    assert says in refusal(load_model, folder)


def test_a_damaged_header_has_no_parameters_to_count(folder):
    for content in (
        b"",
        b"\x08\0\0\0\0\0\0\0notjson!",
        b"\x2b\0\0\0\0\0\0\0" + b'{"model.layers.0.x": {"shape": "wide and"}}',
    ):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
            layer_parameters(folder, 6)


def test_parts_of_a_folder_fail_in_one_line_too(folder):
    (folder / "tokenizer.json").write_text("{}")
    assert f"the tokenizer in {folder} does not load" in refusal(load_tokenizer, folder)
    edit_config(folder, hidden_size="wide")
    assert f"{folder}/config.json does not load" in refusal(load_config, folder)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu", "hpu", "abacus", "cuda:x"])
def test_devices_that_no_model_runs_on(tiny_model, device):
    assert refusal(load_model, tiny_model, device=device).endswith("give cpu, cuda or cuda:N")


def test_a_gpu_that_is_not_there(tiny_model, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert refusal(load_model, tiny_model, device="cuda:7").endswith("torch sees 2 CUDA devices here")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert refusal(load_model, tiny_model, device="cuda").endswith("torch sees no CUDA device here")


def test_a_device_that_is_too_small_is_one_line(tiny_model, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("transformers.PreTrainedModel.to", full)
    with pytest.raises(PathgenError) as caught:
        load_model(str(tiny_model))
    assert (str(caught.value), caught.value.exit_code) == (
        "out of memory: CUDA out of memory. Tried to allocate; give a narrower --dtype, or another --device",
        1,
    )


@pytest.fixture
def old_tokenizer(tmp_path):
    """A repository of the hub whose tokenizer is a vocabulary and merges, without a tokenizer.json."""
    model = tiny("gpt2")
    model.save_pretrained(tmp_path / "hub")
    tokens = ["<|endoftext|>", "a", "b", "ab", *sorted({*bytes_to_unicode().values()} - {"a", "b"})]
    (tmp_path / "hub" / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (tmp_path / "hub" / "merges.txt").write_text("#version: 0.2\na b\n")
    return tmp_path / "hub"


def test_a_tokenizer_of_vocabulary_and_merges_is_downloaded_whole(old_tokenizer, tmp_path, monkeypatch):
    def download(name, allow_patterns):
        folder = tmp_path / "cache"
        folder.mkdir()
        for file in old_tokenizer.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    _, tokenizer = load_model("owner/model")
    assert tokenizer("abb")["input_ids"] == [3, 2]


def test_merges_are_part_of_a_fingerprint_where_they_are_read(old_tokenizer, folder):
    before = fingerprint(old_tokenizer), fingerprint(folder)
    for place in (old_tokenizer, folder):
        (place / "merges.txt").write_text("#version: 0.2\n")
    after = fingerprint(old_tokenizer), fingerprint(folder)
    assert after[0] != before[0]
    assert after[1] == before[1], "a tokenizer.json is read in place of them"


@pytest.mark.parametrize("name", ["a\n" * 100_000, "/" + "b" * 5000, "owner/" + "c" * 300])
def test_a_name_too_long_for_a_file_is_no_model(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: 1 / 0)
    line = refusal(resolve_model, name)
    assert "is no alias (smollm2-135m)" in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("capabilities", "dtype", "slow"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_fp16": False}, "bfloat16", True),
        ({"avx2": True, "avx512_bf16": True, "avx512_fp16": False}, "bfloat16", False),
        ({"avx2": True, "avx512_bf16": True, "avx512_fp16": False}, "float16", True),
        ({"bf16": True, "fp16": True}, "float16", False),
        ({"avx2": True}, "float32", False),
    ],
)
def test_a_dtype_that_this_cpu_only_emulates_is_told(tiny_model, monkeypatch, caplog, capabilities, dtype, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    load_model(str(tiny_model), dtype=dtype)
    told = f"this CPU has no {dtype} instructions: --dtype float32 is several times faster here"
    assert [record.getMessage() for record in caplog.records] == [told] * slow
