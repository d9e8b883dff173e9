"""What `router` cannot use it refuses in one line; whatever it can, before a model is loaded."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import Counter

import pytest
import torch
from path_runs import path, searched
from router_commands import (
    DEEP,
    FULL,
    IMITATE,
    SHALLOW,
    SMALL,
    divergence_file,
    fill_features,
    path_folder,
    records,
    router,
    static_file,
)
from tiny_checkpoint import save_tiny_model

from pathgen.store.run_folder import RunDirectory
from router.features.features import compute_here

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def no_model(monkeypatch):
    """Nothing may load a model."""

    def refuse(*args, **kwargs):
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)


@pytest.fixture
def refusal(tmp_path, no_model):
    """Calls a command, expects a refusal, and gives its line."""
    return refused


def refused(*arguments, code=2):
    answer = router(*arguments, "--json")
    assert answer.json["exit_code"] == answer.code == code, answer.stderr
    *before, line = answer.stderr.splitlines()
    assert line == f"error: {answer.json['error']}"
    assert all("Loading weights" in text for text in before if text)  # transformers' bar, which only a process silences
    return answer.json["error"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A router of one static path."""
    folder = tmp_path_factory.mktemp("trained")
    out = path_folder(folder / "paths", tiny_model, records(24))
    static = static_file(folder / "F.json", tiny_model, SHALLOW)
    assert router("train", "--paths", out, "--out", folder / "r", "--static", static, *SMALL).code == 0
    return folder / "r"


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """A model of other weights."""
    return save_tiny_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--method", "magic"), "unknown method 'magic'; methods are static, cascade, imitate, gates"),
        (("--labels", "best"), "unknown label policy 'best'; policies are shortest, margin, consensus, value"),
        (("--tracker", "mlfow"), "unknown tracker 'mlfow'; trackers are none, tensorboard, wandb, mlflow, trackio"),
        (("--actions", "skip,jump"), "--actions: unknown action 'jump'; actions are skip, execute, repeat"),
        (("--actions", "skip"), "--actions: the actions must hold execute"),
        (("--bias", 1, "--target-depth", 5), "--bias and --target-depth both set how deep the router goes; give one"),
        (("--bias", "nan"), "--bias must be a finite number; got nan"),
        (("--device", "gpu"), "--device must be cpu, cuda or cuda:N; got 'gpu'"),
        (("--dtype", "bf16"), "--dtype must be one of float32, bfloat16, float16; got 'bf16'"),
        (("--target-depth", 0), "--target-depth must be above 0; got 0"),
        (("--dev-share", 1), "--dev-share must lie between 0 and 1; got 1"),
        (("--learning-rate", 0), "--learning-rate must be above 0; got 0.0"),
        (("--compute-penalty", -1), "--compute-penalty must be 0 or more; got -1.0"),
        (("--windows", 9999), "--pooling 'windows' with 9999 windows; last takes 1, windows 1 to 1024"),
    ],
)
def test_options_that_cannot_be(paths, tmp_path, refusal, arguments, line):
    assert refusal("train", "--paths", paths, "--out", tmp_path / "r", "--method", "imitate", *arguments) == line


def test_a_device_that_cannot_be_is_no_place_to_evaluate(paths, trained, refusal):
    line = refusal("evaluate", "--router", trained, "--paths", paths, "--device", "meta")
    assert line == "--device must be cpu, cuda or cuda:N; got 'meta'"


def test_a_bias_has_nothing_to_shift_in_a_static_path(paths, tmp_path, refusal):
    line = refusal("train", "--paths", paths, "--out", tmp_path / "r", "--bias", 1)
    assert line.startswith("--bias shifts what heads or gates choose; method static has neither")


def test_a_place_that_is_no_folder_of_this_machine(paths, refusal):
    line = refusal("train", "--paths", paths, "--out", "memory://bucket/r", *IMITATE)
    assert line == "--out memory://bucket/r: a router is written to a local folder; copy it to a store afterwards"
    assert refusal("train", "--paths", paths, "--out", "/proc", *IMITATE).startswith("--out /proc is a mount point")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("bias", '"0.5"', "bias must be a finite number; got '0.5'"),
        ("scale", "NaN", "scale must be a finite number; got nan"),
        ("width", "8.5", "width must be a whole number from 1 to 100000; got 8.5"),
        ("num_layers", "100000000", "num_layers must be a whole number from 1 to 100000"),
    ],
)
def test_a_config_whose_values_cannot_be(trained, tmp_path, refusal, name, value, says):
    folder = shutil.copytree(trained, tmp_path / "r")
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps(config | {name: None}).replace(f'"{name}": null', f'"{name}": {value}')
    (folder / "config.json").write_text(text)
    assert says in refusal("show", folder, code=4)


def test_no_paths(tmp_path, refusal):
    assert refusal("train", "--out", tmp_path / "r") == "Missing option '--paths'"


def test_a_folder_without_a_run_or_without_questions(tiny_model, tmp_path, refusal):
    (tmp_path / "nothing").mkdir()
    assert f"{tmp_path}/nothing" in refusal("train", "--paths", tmp_path / "nothing", "--out", tmp_path / "r", *IMITATE)
    empty = path_folder(tmp_path / "empty", tiny_model, [])
    line = refusal("train", "--paths", empty, "--out", tmp_path / "r", *IMITATE)
    assert line.startswith(f"{empty} holds no searched question; ")


def test_too_few_questions_to_hold_any_out(tiny_model, tmp_path, refusal):
    few = path_folder(tmp_path / "few", tiny_model, records(2))
    line = refusal("train", "--paths", few, "--out", tmp_path / "r", *IMITATE)
    assert line == "no development questions: give --dev DIR, a larger --dev-share, or more paths"


def test_folders_of_two_models(paths, other_model, tmp_path, refusal):
    other = path_folder(tmp_path / "other", other_model, records(2, prefix="o"))
    line = refusal("train", "--paths", paths, "--paths", other, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line.startswith(f"{paths} and {other} do not belong together: their model fingerprint is ")
    line = refusal("train", "--paths", paths, "--dev", other, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line.startswith(f"--dev {other} and --paths {paths} are not of one model, searched alike: their fingerprint")


def test_paths_of_another_model_than_the_one_at_hand(paths, other_model, tmp_path, refusal):
    line = refusal("train", "--paths", paths, "--model", other_model, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line.startswith(f"{paths} was made with a model of fingerprint ")
    assert f"; {other_model} now has " in line


def test_paths_of_another_length(tiny_model, tmp_path, refusal):
    short = path_folder(
        tmp_path / "short", tiny_model, [searched(f"q{n}", {"....": -1.0, "-...": 1.0}) for n in range(9)]
    )
    line = refusal("train", "--paths", short, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line == f"{short} holds paths of 4 layers, {tiny_model} has 6"


def test_a_record_whose_path_is_too_long(tiny_model, tmp_path, refusal):
    wrong = searched("q1", {FULL: -1.0, SHALLOW: 1.0}, best_path=path("......."))
    mixed = path_folder(tmp_path / "mixed", tiny_model, [searched("q0", {FULL: -1.0, SHALLOW: 1.0}), wrong])
    line = refusal("train", "--paths", mixed, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line == f"{mixed}: question q1: a path has 7 actions, the model 6 layers"


def test_a_record_with_an_action_that_is_none(tiny_model, tmp_path, refusal):
    wrong = searched("q1", {FULL: -1.0, SHALLOW: 1.0}, best_path=(3, 1, 1, 1, 1, 1))
    mixed = path_folder(tmp_path / "mixed", tiny_model, [searched("q0", {FULL: -1.0, SHALLOW: 1.0}), wrong])
    line = refusal("train", "--paths", mixed, "--out", tmp_path / "r", *IMITATE, code=4)
    assert line.startswith(f"{mixed}: question q1: ")
    assert "3" in line


def test_a_run_whose_task_asks_otherwise_now(paths, trained, tmp_path, refusal, monkeypatch):
    monkeypatch.setattr("pathgen.questions.tasks.Task.prompt", lambda self, question: f"Q: {question.prompt}")
    for command in (("train", "--out", tmp_path / "r"), ("evaluate", "--router", trained)):
        line = refusal(*command, "--paths", paths, code=4)
        assert f"{paths} was searched when task arc had another template" in line


def test_development_questions_that_are_trained_on(paths, tiny_model, tmp_path, refusal):
    dev = path_folder(tmp_path / "dev", tiny_model, records(3))
    line = refusal("train", "--paths", paths, "--dev", dev, "--out", tmp_path / "r", *IMITATE)
    assert line.startswith("3 development questions are among those trained on, by id or by text (q0, q1, q2); ")


def test_a_place_that_is_not_for_a_router(paths, tiny_model, tmp_path, refusal):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        line = refusal("train", "--paths", paths, "--out", out, *IMITATE)
        assert line == f"--out {out}: {tmp_path / 'file'} is a file; give a folder"
    line = refusal("train", "--paths", paths, "--out", "/proc/below", *IMITATE)
    assert line.startswith("--out /proc/below cannot be written")
    (tmp_path / "mine" / "logs").mkdir(parents=True)
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    model = shutil.copytree(tiny_model, tmp_path / "model")  # it has a config.json and a model.safetensors too
    for out, first in ((tmp_path / "mine", "thesis.tex"), (model, "config.json"), (paths, "features")):
        line = refusal("train", "--paths", paths, "--out", out, *IMITATE)
        assert line.startswith(f"--out {out} holds {first}")
        assert line.endswith(" and no router; give a new folder")


def test_static_files_that_do_not_fit(paths, tiny_model, other_model, tmp_path, refusal):
    train = ("train", "--paths", paths, "--out", tmp_path / "r", *SMALL, "--static")
    missing, damaged = tmp_path / "no.json", tmp_path / "damaged.json"
    assert refusal(*train, missing).startswith(f"{missing} cannot be read (No such file or directory); ")
    damaged.write_bytes(static_file(tmp_path / "F.json", tiny_model, SHALLOW).read_bytes()[:-9])
    assert refusal(*train, damaged, code=4).startswith(f"{damaged} is no output of `pathgen static`, or damaged (")
    other = static_file(tmp_path / "other.json", other_model, SHALLOW)
    assert refusal(*train, other, code=4).startswith(f"{other} is of {other_model} (")


def test_paths_that_were_found_with_bridges_do_not_run_without(paths, tiny_model, tmp_path, refusal):
    found = divergence_file(tmp_path / "F.json", tiny_model, SHALLOW, bridges="b" * 16)
    line = refusal("train", "--paths", paths, "--out", tmp_path / "r", *SMALL, "--static", found, code=4)
    assert line.startswith(f"{found} was found with bridges {'b' * 16}, and here no bridges run; ")


def test_a_static_path_that_the_options_rule_out(paths, tiny_model, tmp_path, refusal):
    static = static_file(tmp_path / "F.json", tiny_model, DEEP, SHALLOW)
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--static", static)
    assert refusal(*train, "--target-depth", 4.5).startswith("no static path has depth 4 or less; ")


def test_a_depth_that_gates_do_not_reach(paths, tmp_path, refusal):
    line = refusal("train", "--paths", paths, "--out", tmp_path / "r", "--method", "gates", "--target-depth", 3.5)
    assert line.startswith("--target-depth 3.5 is below 4, the shallowest path that gates are rounded to")


def test_a_depth_that_no_static_path_is_searched_for(paths, tmp_path, refusal):
    train = ("train", "--paths", paths, "--out", tmp_path / "r", "--target-depth")
    line = refusal(*train, 4)
    assert line == (
        "--target-depth 4 is below 5, the shallowest path that is searched for method static with "
        "--actions skip,execute,repeat"
    )
    assert refusal(*train, 5, "--actions", "execute,repeat").startswith("--target-depth 5 is below 6, ")


def test_damaged_routers(paths, trained, tmp_path, refusal):
    def damage(name, change):
        folder = shutil.copytree(trained, tmp_path / name)
        change(folder)
        return folder

    cut = damage("cut", lambda folder: os.truncate(folder / "model.safetensors", 50))
    odd = damage("odd", lambda folder: (folder / "config.json").write_text("{}"))
    pickled = damage("bin", lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"))
    expected = {
        cut: f"{cut}/model.safetensors is damaged (",
        odd: f"{odd}/config.json is not a router's config.json (",
        pickled: f"{pickled} is not a router: it has no model.safetensors; pytorch_model.bin is not read",
    }
    for folder, line in expected.items():
        assert refusal("show", folder, code=4).startswith(line)
        assert refusal("evaluate", "--router", folder, "--paths", paths, code=4).startswith(line)
    assert refusal("show", tmp_path / "none").startswith(f"there is no router folder {tmp_path / 'none'}; ")


def test_a_router_of_another_model_or_a_bias_that_is_none(paths, trained, other_model, tmp_path, refusal):
    other = path_folder(tmp_path / "other", other_model, records(2))
    line = refusal("evaluate", "--router", trained, "--paths", other, code=4)
    assert "with fingerprint" in line
    line = refusal("evaluate", "--router", trained, "--paths", paths, "--bias", "inf")
    assert line == "--bias must be a finite number; got inf"


def test_a_router_of_chats_on_paths_without_the_template(paths, trained, tmp_path, refusal):
    chats = shutil.copytree(trained, tmp_path / "chats")
    config = json.loads((chats / "config.json").read_text())
    (chats / "config.json").write_text(json.dumps({**config, "chat": True}))
    line = refusal("evaluate", "--router", chats, "--paths", paths, code=4)
    assert line == f"{chats} went through the chat template, {paths} did not; give paths searched alike"


def test_a_full_disk_leaves_the_old_router_whole(paths, trained, tiny_model, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, tmp_path / "r")
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    static = static_file(tmp_path / "F.json", tiny_model, DEEP)
    calls = []
    real = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 4:  # weights, config and card fit; what lies beside them does not
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("os.fsync", full)
    train = ("train", "--paths", paths, "--out", folder, "--static", static, "--device", "cpu", "--quiet")
    line = refused(*train, code=1)
    assert line == f"cannot write the router {folder}: No space left on device"
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_between_epochs_is_one_line(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPATHS_FAULT", "mid-temp:1:enospc")
    monkeypatch.setattr("pathgen.faults._passings", Counter())
    line = refused("train", "--paths", paths, "--out", tmp_path / "r", *IMITATE, code=1)
    assert "No space left on device" in line


def test_labels_of_one_class_alone_are_warned_of(tiny_model, tmp_path, caplog):
    rows = [searched(f"q{n}", {FULL: 1.0, SHALLOW: -1.0}) for n in range(24)]
    out = path_folder(tmp_path / "paths", tiny_model, rows)
    fill_features(out, tiny_model)
    answer = router("train", "--paths", out, "--out", tmp_path / "r", *IMITATE)
    assert answer.code == 0
    assert "every target is EXECUTE: the router can only learn to take one path" in caplog.text


def test_questions_without_a_right_path_leave_nothing_to_imitate(tiny_model, tmp_path, refusal):
    out = path_folder(tmp_path / "paths", tiny_model, [searched(f"q{n}", {FULL: -1.0, DEEP: -1.0}) for n in range(24)])
    line = refusal("train", "--paths", out, "--out", tmp_path / "r", *IMITATE)
    assert line.startswith(f"no labels in {out}: ")
    assert line.endswith("search more questions, allow more actions, or use --labels value")


def test_features_that_hold_nan_are_named(tiny_model, tmp_path, monkeypatch):
    out = path_folder(tmp_path / "paths", tiny_model, records(24))
    monkeypatch.setattr("router_commands.compute_here", lambda *given: compute_here(*given) * torch.nan)
    fill_features(out, tiny_model)
    line = refused("train", "--paths", out, "--out", tmp_path / "r", *IMITATE, code=4)
    assert re.search(r"part-here-.*\.safetensors holds NaN or Inf for question q\d+; delete it and run", line)


def test_a_damaged_shard_is_named(tiny_model, tmp_path, refusal):
    out = path_folder(tmp_path / "paths", tiny_model, records(24))
    shard = next(iter(RunDirectory(out).fs.ls(RunDirectory(out).paths, detail=False)))
    os.truncate(shard, 300)
    line = refusal("train", "--paths", out, "--out", tmp_path / "r", *IMITATE, code=4)
    assert shard.rpartition("/")[2] in line
