"""GGUF files as models: converted once, whole or not at all; what cannot be converted is one line."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from contextlib import suppress

import pytest
import torch
from commands import pathgen
from gguf import GGUFReader, dequantize
from tiny_gguf import CHAT_TEMPLATE, TOKENS, save_tiny_gguf, tiny_qwen2

from pathgen.errors import InputError, PathgenError
from pathgen.models import conversions
from pathgen.models.facts import file_digest, fingerprint, num_layers
from pathgen.models.gguf_file import read_gguf
from pathgen.models.loading import load_model
from pathgen.models.resolving import absolute_name, resolve_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A file of float32 values."""
    return save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    return save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny-q8.gguf", kind="Q8_0")


def refused(name, **how):
    with pytest.raises(InputError) as caught:
        resolve_model(str(name), **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def leftovers(cache):
    return [file.name for file in cache.glob("*") if file.suffix != ".lock"] + [f.name for f in cache.glob(".*")]


def test_a_file_is_a_model_with_its_tokenizer_and_template(plain):
    model, tokenizer = load_model(str(plain))
    for name, value in tiny_qwen2().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert tokenizer("a to")["input_ids"] == [TOKENS.index("a"), TOKENS.index("Ġt"), TOKENS.index("o")]
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<eos>", CHAT_TEMPLATE)


def test_a_tied_head_stays_tied(tmp_path):
    model, _ = load_model(str(save_tiny_gguf(tmp_path / "tied.gguf", tiny_qwen2(tied=True))))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_quantised_values_are_dequantised_to_float32_and_told(quantised, caplog):
    folder = resolve_model(str(quantised))
    assert f"converting {quantised} (Q8_0, dequantised values) to 0.0 GB of float32" in caplog.text
    origin = json.loads((folder / "converted_from.json").read_text())
    assert (origin["format"], origin["file"], origin["kind"], origin["quantised"]) == (
        "gguf",
        "tiny-q8.gguf",
        "Q8_0",
        True,
    )
    assert set(origin["values_by_type"]) == {"F32", "Q8_0"}
    weights = load_model(str(folder))[0].state_dict()
    tensor = next(t for t in GGUFReader(quantised).tensors if t.name == "blk.1.ffn_up.weight")
    found = weights["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(found, torch.from_numpy(dequantize(tensor.data, tensor.tensor_type)))
    assert not torch.equal(found, found.bfloat16().float()), "bfloat16 would be another model"


def test_a_file_is_converted_once(plain, cache, caplog):
    first = resolve_model(str(plain))
    before = fingerprint(first)
    caplog.clear()
    second = resolve_model(str(plain))
    assert (second, fingerprint(second)) == (first, before)
    assert not caplog.records
    assert first == cache / f"tiny-{file_digest(plain)}"
    assert num_layers(first) == 3


def test_a_changed_file_of_the_same_name_is_another_model(tmp_path, plain):
    file = tmp_path / "m.gguf"
    shutil.copy(plain, file)
    first = resolve_model(str(file))
    save_tiny_gguf(file, tiny_qwen2(seed=1))
    second = resolve_model(str(file))
    assert file.stat().st_size == plain.stat().st_size
    assert first != second
    assert fingerprint(first) != fingerprint(second)


def test_a_folder_with_one_file_is_that_file(plain):
    assert resolve_model(str(plain.parent)) == resolve_model(str(plain))


def test_a_folder_with_safetensors_is_itself(plain, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "both")
    shutil.copy(plain, folder)
    assert resolve_model(str(folder)) == folder


def test_a_name_for_another_working_folder(plain, monkeypatch):
    monkeypatch.chdir(plain.parent)
    assert absolute_name("tiny.gguf") == str(plain)
    assert absolute_name("smollm2-135m") == "smollm2-135m"
    assert absolute_name("owner/tiny.gguf") == "owner/tiny.gguf"


def test_files_beside_it_are_not_read(plain, tmp_path):
    """Its digest, and so the name of the conversion, does not cover them."""
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_text('{"tokenizer_class": "Zork"}')
    model, tokenizer = load_model(shutil.copy(plain, tmp_path / "m.gguf"))
    assert (tokenizer.chat_template, len(model.model.layers)) == (CHAT_TEMPLATE, 3)


def test_weights_that_are_missing_are_told_by_the_file_s_name(tmp_path, cache):
    file = save_tiny_gguf(tmp_path / "m.gguf", claimed_layers=4)
    assert f"the weights in {file} lack 12 tensors, first model.layers.3." in refused(file)
    assert leftovers(cache) == []


def test_several_processes_convert_it_once(plain, caplog):
    found = []
    threads = [threading.Thread(target=lambda: found.append(resolve_model(str(plain)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert caplog.text.count("converting") == 1


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"architecture": "zork"}, "the GGUF architecture zork is not supported; supported are "),
        ({"architecture": "mamba"}, "the GGUF architecture mamba is not supported; supported are"),
        ({"architecture": "t5"}, "the GGUF architecture t5 is not supported; supported are"),
        ({"weights": False}, "holds a vocabulary only, no weights"),
        ({"tokenizer": False}, "holds no tokenizer"),
        ({"more": {"split.count": 3}}, "is one part of a split GGUF; merge the parts first: llama-gguf-split --merge"),
    ],
)
def test_files_that_are_no_model(tmp_path, cache, how, says):
    line = refused(save_tiny_gguf(tmp_path / "odd.gguf", **how))
    assert says in line
    assert not cache.exists(), "refused before anything is written"


@pytest.mark.parametrize("kept", [1, 3, 23, 24, 40, 2000, 4000, 20_000, -64])
def test_a_file_that_is_cut_short(tmp_path, plain, cache, kept):
    file = tmp_path / "cut.gguf"
    file.write_bytes(plain.read_bytes()[:kept])
    assert (" is not a GGUF file" if 0 < kept < 4 else " is cut short: ") in refused(file)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "(a git-lfs pointer?)"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(40), "version 1, not 2 or 3"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(40), "(big-endian)"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 40, "is cut short: its header goes on beyond its end"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(40), "holds a vocabulary only"),
    ],
)
def test_bytes_that_are_no_whole_file(tmp_path, content, says):
    (tmp_path / "model.gguf").write_bytes(content)
    assert says in refused(tmp_path / "model.gguf")


def test_any_damage_to_a_header_is_refused_or_harmless(tmp_path, plain):
    whole, end = bytearray(plain.read_bytes()), 5000
    for place in range(4, end, 37):
        damaged = whole.copy()
        damaged[place : place + 8] = b"\xff" * 8
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        with suppress(InputError):  # some damage is to a text, or to a number that is not read
            read_gguf(tmp_path / "damaged.gguf")


def test_parts_of_a_split_file_name_the_merge(tmp_path, plain):
    for part in (1, 2):
        shutil.copy(plain, tmp_path / f"big-0000{part}-of-00002.gguf")
    merge = "llama-gguf-split --merge big-00001-of-00002.gguf big.gguf"
    assert merge in refused(tmp_path / "big-00002-of-00002.gguf")
    assert merge in refused(tmp_path)


def test_a_folder_of_several_files_names_them(tmp_path, plain):
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(plain, tmp_path / name)
    assert refused(tmp_path).endswith("holds 2 GGUF files (a.gguf, b.gguf); give the path of one")


def test_a_file_that_is_not_on_this_machine_says_so(tmp_path):
    assert f"no local folder or file on {os.uname().nodename}" in refused(tmp_path / "none.gguf")
    assert "no local folder or file on" in refused("models/none.gguf")


def test_a_file_that_cannot_be_read_says_why(plain, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathgen.models.gguf_model.file_digest", denied)
    assert refused(plain) == f"{plain} cannot be read (Permission denied)"


def test_rotary_scaling_that_is_not_read_is_told(tmp_path, caplog):
    file = save_tiny_gguf(tmp_path / "m.gguf", more={"qwen2.rope.scaling.type": 1})
    resolve_model(str(file))
    assert "scales its rotary positions; transformers does not read this from GGUF" in caplog.text


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(plain, cache, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10 << 20))
    assert "GB are free; LAYERPATHS_CACHE names another folder" in refused(plain)
    assert leftovers(cache) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_conversion_that_fails_leaves_nothing(plain, cache, monkeypatch, error):
    def full(self, folder, **_):
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        with pytest.raises((PathgenError, KeyboardInterrupt)) as caught:
            resolve_model(str(plain))
    if isinstance(error, OSError):
        assert "could not be converted into" in str(caught.value)
        assert "No space left on device" in str(caught.value)
    assert leftovers(cache) == []
    assert resolve_model(str(plain)).exists()


def test_what_a_killed_process_left_is_no_model(plain, cache):
    half = cache / f".tiny-{file_digest(plain)}.partial"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    load_model(str(plain))
    assert not half.exists()


def test_an_old_conversion_of_the_alias_is_taken_as_it_is(cache, tiny_model):
    folder = shutil.copytree(tiny_model, cache / "smollm2-135m")
    assert resolve_model("smollm2-135m") == folder


def test_the_alias_is_converted_by_the_same_means(cache, plain, tmp_path, monkeypatch, caplog):
    package = tmp_path / "packaged_model"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(plain, package / "m.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("pathgen.models.resolving.ALIASES", {"little": ("packaged_model", "m.gguf", "little==1")})
    assert resolve_model("little") == cache / "little"
    assert "converting" in caplog.text
    assert conversions.ORIGIN in {file.name for file in (cache / "little").iterdir()}


def test_a_command_says_in_one_line_what_is_wrong_with_a_file(tmp_path, plain, caplog):
    caplog.set_level(logging.WARNING)
    file = tmp_path / "cut.gguf"
    file.write_bytes(plain.read_bytes()[:-64])
    answer = pathgen("generate", "--model", file, "--out", tmp_path / "run", "--task", "arc", "--questions", "builtin")
    assert answer.code == 2
    assert "is cut short" in answer.error
    assert not (tmp_path / "run").exists()
