"""`infer export`: where the path comes from, what is refused, what is written, and that nothing half written stays."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exports import export, plain, save_family
from harness_models import full_router, mixed_router
from router_commands import divergence_file, static_file
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import infer.export.export as one_call
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from router.net.router import path_logits
from router.saved.folder import save_router
from router.saved.loading import load_router

ROOT = Path(__file__).parents[3]
PATH = "-.2.-."
"""Of the tiny model's six layers."""


def static_router(folder: Path, model: Path, path: str, extra=None, **config) -> Path:
    """A router that gives every question one path."""
    router = load_router(full_router(model, folder / "full"))
    shutil.rmtree(folder / "full")
    with torch.no_grad():
        router.static_logits.copy_(path_logits(LayerPath.parse(path)))
    router.config = replace(router.config, method="static", **config)
    save_router(router, folder / "router", extra)
    return folder / "router"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def refusal(out: Path, *arguments: object, code: int = 2) -> str:
    """The error of a call that must leave nothing behind."""
    before = sorted(out.parent.rglob("*"))
    answer = export(*arguments, "--out", out)
    assert answer.code == code, answer.stderr
    assert sorted(out.parent.rglob("*")) == before
    return answer.stderr.splitlines()[-1].removeprefix("error: ")


def rows_of_card(folder: Path) -> dict[str, str]:
    _, table = (folder / "README.md").read_text().split("|---|---|\n")
    return dict(line.strip("| ").split(" | ", 1) for line in table.split("\n\n")[0].splitlines())


def test_a_path_by_hand(tiny_model, out):
    answer = export("--path", PATH, "--model", tiny_model, "--out", out, "--json")
    assert answer.code == 0
    found = answer.json
    assert sorted(found) == ["depth", "divergence", "max_logit_gap", "model", "out", "parameters", "path"]
    assert found["out"] == str(out)
    assert found["path"] == [0, 1, 2, 1, 0, 1]
    rows = rows_of_card(out)
    assert rows["path (`.` executed, `-` skipped, `2` repeated)"] == f"`{PATH}`"
    assert rows["path as actions"] == "`[0, 1, 2, 1, 0, 1]`"
    assert rows["depth"] == "5 of 6"
    assert rows["chosen"] == "given by hand"
    assert rows["what it is worth"] == "not measured"
    assert rows["base model's fingerprint"] == fingerprint(tiny_model)
    assert "AutoModelForCausalLM.from_pretrained" in (out / "README.md").read_text()


def test_the_text_says_what_to_do_next(tiny_model, out):
    answer = export("--path", PATH, "--model", tiny_model, "--out", out)
    assert answer.stdout.splitlines()[0] == f"{out}: {tiny_model} along {PATH}, depth 5 of 6"
    assert f"lm-eval run --model hf --model_args pretrained={out}" in answer.stdout


def test_a_list_of_actions_is_read_too(tiny_model, out):
    answer = export("--path", "[0, 1, 2, 1, 0, 1]", "--model", tiny_model, "--out", out, "--json")
    assert answer.json["path"] == list(LayerPath.parse(PATH))


def test_tokenizer_generation_config_and_template_go_along(tmp_path, out):
    folder = save_family(tmp_path / "base", "llama")
    (folder / "LICENSE").write_text("terms")
    (folder / "generation_config.json").write_text('{"temperature": 0.25, "do_sample": true}')
    (folder / "old.safetensors.index.json").write_text("{}")
    assert export("--path", "2.-.", "--model", folder, "--out", out).code == 0
    names = {file.name for file in out.iterdir()}
    assert {"tokenizer.json", "LICENSE", "chat_template.jinja", "config.json", "README.md"} <= names
    assert "old.safetensors.index.json" not in names
    assert plain(out).generation_config.temperature == 0.25
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False) == "hello"


def test_the_folder_is_a_model_of_this_project_too(tiny_model, tmp_path, out):
    export("--path", PATH, "--model", tiny_model, "--out", out)
    again = export("--path", ".....", "--model", out, "--out", tmp_path / "again", "--json")
    assert again.json["max_logit_gap"] <= 1e-4
    assert fingerprint(out) != fingerprint(tiny_model)
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1


def test_a_path_by_divergence_says_how_far_it_is_from_full_depth(tiny_model, tmp_path, out):
    file = divergence_file(tmp_path / "F.json", tiny_model, "--....", "-.....")
    assert export("--static", file, "--depth", 5, "--out", out).code == 0
    rows = rows_of_card(out)
    assert rows["chosen"] == "by `pathgen static`, closest to full depth of depth 5 (tasks arc)"
    assert rows["what it is worth"] == (
        "divergence 0.100 ± 0.010 nats and agreement 0.900 ± 0.020 with full depth, on 10 held-out questions; "
        "accuracy 0.500, full depth 0.500"
    )
    answer = export("--static", file, "--depth", 3, "--out", tmp_path / "no")
    assert "has no path of this depth; its depths are 4, 5, 6" in answer.error


def test_a_static_router(tiny_model, tmp_path, out):
    notes = {"routed_accuracy": 0.5, "full_accuracy": 0.4, "dev_questions": 30}
    router = static_router(tmp_path, tiny_model, PATH, notes=notes)
    answer = export("--router", router, "--out", out, "--json")
    assert answer.json["path"] == list(LayerPath.parse(PATH))
    assert answer.json["model"] == str(tiny_model)
    rows = rows_of_card(out)
    assert rows["chosen"] == "by a router (method static, tasks arc)"
    assert rows["what it is worth"] == "accuracy 0.500 on 30 development questions; full depth 0.400"


def test_a_router_s_training_file_gives_the_interval(tiny_model, tmp_path, out):
    figures = {
        "routed_accuracy": 0.5,
        "full_accuracy": 0.4,
        "dev_questions": 30,
        "delta_vs_full": 0.1,
        "delta_ci95": [-0.05, 0.25],
        "chosen_on_dev": ["path"],
    }
    training = json.dumps({"figures": figures}).encode()
    router = static_router(tmp_path, tiny_model, PATH, {"training.json": training})
    export("--router", router, "--out", out)
    assert rows_of_card(out)["what it is worth"] == (
        "accuracy 0.500 on 30 development questions; full depth 0.400; gain +10.0 points, 95 % interval [-5.0, +25.0] "
        "(too good: path chosen on the same questions)"
    )


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"figures": {"routed_accuracy": null}}'])
def test_a_router_without_figures_is_not_measured(tiny_model, tmp_path, out, damaged):
    router = static_router(tmp_path, tiny_model, PATH, {"training.json": damaged})
    export("--router", router, "--out", out)
    assert rows_of_card(out)["what it is worth"] == "not measured"


def test_the_bias_may_move_a_static_path(tiny_model, tmp_path, out):
    router = static_router(tmp_path, tiny_model, PATH, notes={"routed_accuracy": 0.5})
    answer = export("--router", router, "--bias", "-2", "--out", out, "--json")
    assert answer.json["path"] == [2] * 6
    rows = rows_of_card(out)
    assert rows["what it is worth"] == "not measured with this bias"
    assert rows["chosen"].endswith("with a bias of -2")
    error = refusal(tmp_path / "none", "--router", router, "--bias", 2)
    assert error == "the path skips every layer: a model of depth 0 is no model"


def test_a_router_that_reads_its_question_is_refused(tiny_model, tmp_path, out):
    router = mixed_router(tiny_model, tmp_path / "router")
    error = refusal(out, "--router", router)
    assert error.startswith(f"{router} reads each question (method by hand, head bottleneck) and so has no one path")


def test_a_reading_head_of_scale_0_reads_nothing(tiny_model, tmp_path, out):
    router = load_router(mixed_router(tiny_model, tmp_path / "router"))
    router.config = replace(router.config, scale=0.0)
    with torch.no_grad():
        router.static_logits.copy_(path_logits(LayerPath.parse(PATH)))
    save_router(router, tmp_path / "router")
    assert export("--router", tmp_path / "router", "--out", out, "--json").json["path"] == list(LayerPath.parse(PATH))


def test_the_chosen_static_path(tiny_model, tmp_path, out):
    static = static_file(tmp_path / "static.json", tiny_model, "-.....", "--....")
    answer = export("--static", static, "--out", out, "--json")
    assert answer.json["path"] == [0, 1, 1, 1, 1, 1]
    rows = rows_of_card(out)
    assert rows["chosen"] == "by `pathgen static`, the most accurate of any depth (tasks arc)"
    assert rows["what it is worth"] == (
        "accuracy 0.900 on 10 questions (cross-validated, the choice of the depth included); full depth 0.100; gain "
        "+80.0 points, 95 % interval [+30.0, +94.3]"
    )


def test_the_static_path_of_a_depth(tiny_model, tmp_path, out):
    static = static_file(tmp_path / "static.json", tiny_model, "-.....", "--....")
    answer = export("--static", static, "--depth", 4, "--out", out, "--json")
    assert answer.json["path"] == [0, 0, 1, 1, 1, 1]
    rows = rows_of_card(out)
    assert rows["chosen"] == "by `pathgen static`, the most accurate of depth 4 (tasks arc)"
    assert "accuracy 0.800 on 10 questions (cross-validated, the depth given)" in rows["what it is worth"]
    error = refusal(tmp_path / "none", "--static", static, "--depth", 3)
    assert error == f"--depth 3: {static} has no path of this depth; its depths are 4, 5, 6"


def test_the_full_path_is_called_so(tiny_model, tmp_path, out):
    static = static_file(tmp_path / "static.json", tiny_model, "-.....")
    assert export("--static", static, "--depth", 6, "--out", out, "--json").json["divergence"] == 0
    assert rows_of_card(out)["what it is worth"] == "accuracy 0.100 on 10 questions: this is the full path"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one of --router, --static and --path"),
        (["--path", "......", "--router", "x"], "give one of --router, --static and --path"),
        (["--path", "......"], "--path needs --model"),
        (["--path", "......", "--model", "M", "--depth", "3"], "--depth goes with --static"),
        (["--path", "......", "--model", "M", "--bias", "1"], "--bias goes with --router"),
        (["--router", "x", "--bias", "nan"], "--bias must be a finite number; got nan"),
        (
            ["--path", "..x", "--model", "M"],
            "--path: a path is written with . executed, - skipped, 2 repeated; got 'x'",
        ),
        (["--path", " ", "--model", "M"], "--path: a path needs at least one layer"),
        (["--path", "......", "--model", "./none"], "no local folder"),
        (["--router", "./none"], "there is no router folder ./none"),
        (["--static", "./none.json"], "./none.json cannot be read"),
    ],
)
def test_wrong_use_is_one_line(out, arguments, says):
    assert says in refusal(out, *arguments)


def test_a_path_of_another_number_of_layers_is_refused(tiny_model, out):
    assert refusal(out, "--path", ".....", "--model", tiny_model) == f"the path has 5 layers, {tiny_model} has 6"


def test_a_path_of_depth_0_is_refused(tiny_model, out):
    assert "depth 0" in refusal(out, "--path", "------", "--model", tiny_model)


def test_another_model_s_router_and_path_are_refused(tiny_model, tmp_path, out):
    other = save_family(tmp_path / "other", "llama")
    router = static_router(tmp_path, tiny_model, PATH)
    assert "was made with a model of fingerprint" in refusal(out, "--router", router, "--model", other, code=4)
    static = static_file(tmp_path / "static.json", tiny_model, "-.....")
    assert "was made with a model of fingerprint" in refusal(out, "--static", static, "--model", other, code=4)


def test_what_exists_is_never_written_over(tiny_model, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        place = tmp_path / name
        assert f"--out {place} exists" in refusal(place, "--path", PATH, "--model", tiny_model)
    below = tmp_path / "file" / "out"
    assert "file is a file" in export("--path", PATH, "--model", tiny_model, "--out", below).error
    assert "local folder" in export("--path", PATH, "--model", tiny_model, "--out", "s3://bucket/out").error


def test_the_base_s_own_folder_is_no_place(tmp_path):
    folder = save_family(tmp_path / "base", "llama")
    inside = folder / "export"
    assert refusal(inside, "--path", "2.-.", "--model", folder).startswith(f"--out {inside} is in the folder of")


def test_a_quantised_model_is_refused(tmp_path, out):
    folder = save_family(tmp_path / "base", "llama")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    error = refusal(out, "--path", "2.-.", "--model", folder)
    assert error.startswith(f"{folder} along 2.-. cannot be exported: its weights are quantised (gptq)")


def test_logits_of_another_model_are_never_exported(tiny_model, out, monkeypatch):
    """The last check, should all others miss something: a layer's weights in the wrong place."""

    def swapped(tensors, stack, path):
        return along(tensors, stack, LayerPath(path[::-1]))

    along = one_call.along_path
    monkeypatch.setattr(one_call, "along_path", swapped)
    error = refusal(out, "--path", PATH, "--model", tiny_model)
    assert "its logits would differ by" in error
    assert "some layer does other work in another place" in error


def test_a_window_longer_than_the_text_is_checked_too(tmp_path, out, monkeypatch):
    """Layers of the wrong kind give the same logits as long as no row is longer than the window."""
    folder = save_family(tmp_path / "base", "qwen2_sliding")
    config = json.loads((folder / "config.json").read_text()) | {"sliding_window": 1000}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(one_call, "check_layers", lambda *_: "model.layers")
    real = one_call.path_config
    monkeypatch.setattr(one_call, "path_config", lambda *a: real(*a) | {"layer_types": ["full_attention"] * 4})
    assert "its logits would differ by" in refusal(out, "--path", "2.-.", "--model", folder)


def test_nan_is_no_agreement(tmp_path, out):
    folder = save_family(tmp_path / "base", "llama")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    answer = export("--path", "2.-.", "--model", folder, "--out", out)
    assert answer.code == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("place", ["write", "weights", "card", "flush", "rename"])
def test_a_full_disk_leaves_nothing(tiny_model, out, monkeypatch, place):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_in_rust(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    real = Path.write_text
    if place == "weights":
        monkeypatch.setattr("infer.export.weights.save_file", full_in_rust)
    elif place in ("write", "card"):
        name = {"write": "config.json", "card": "README.md"}[place]
        fails = lambda path, *a, **k: full() if path.name == name else real(path, *a, **k)  # noqa: E731
        monkeypatch.setattr(Path, "write_text", fails)
    elif place == "flush":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "rename", full)
    error = refusal(out, "--path", PATH, "--model", tiny_model, code=1)
    assert error.startswith(f"cannot write {out}: ")
    assert "No space left on device" in error


def test_a_file_system_that_stops_in_the_middle_leaves_nothing(tiny_model, out):
    """Truly: a process that may not write files of more than a few kilobytes."""
    command = [sys.executable, "-m", "infer", "export", "--path", PATH, "--model", tiny_model, "--out", out]
    line = f"ulimit -f 32; exec {shlex.join(str(word) for word in command)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert f"error: cannot write {out}: " in done.stderr
    assert "File too large" in done.stderr
    assert list(out.parent.iterdir()) == []


def test_too_little_space_is_told_before_writing(tiny_model, out, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "has 0.00 GB free; the model needs" in refusal(out, "--path", PATH, "--model", tiny_model, code=1)


def test_an_interrupt_leaves_nothing(tiny_model, out, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(one_call, "check_folder", interrupt)
    assert refusal(out, "--path", PATH, "--model", tiny_model, code=130) == "interrupted"


def test_what_a_killed_export_left_is_replaced(tiny_model, out):
    left = out.with_name(".tmp-out")
    left.mkdir()
    (left / "half.safetensors").write_bytes(b"x")
    assert export("--path", PATH, "--model", tiny_model, "--out", out).code == 0
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]
    assert not (out / "half.safetensors").exists()


def test_layers_of_several_kinds_are_warned_of(tmp_path, out):
    folder = save_family(tmp_path / "base", "gemma2")
    export("--path", "2.-.", "--model", folder, "--out", out)
    assert "runs this model wrongly" in (out / "README.md").read_text()
    uniform = save_family(tmp_path / "uniform", "llama")
    export("--path", "2.-.", "--model", uniform, "--out", tmp_path / "plain")
    assert "wrongly" not in (tmp_path / "plain" / "README.md").read_text()
