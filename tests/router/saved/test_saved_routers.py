"""A router's folder: written whole or not at all, read strictly, sent to the hub."""

from __future__ import annotations

import errno
import json
import os
import shutil

import huggingface_hub
import pytest
import safetensors.torch
import torch
import yaml
from training_toys import same_weights, toy_config

from pathgen.errors import ArtefactError, InputError, PathgenError
from router.net.config import RouterConfig
from router.net.router import Router
from router.saved.folder import finish_swap, save_router
from router.saved.loading import load_router, resolve_router, upload_router
from router.training.trainer import new_router


@pytest.fixture
def saved(tmp_path):
    """A router and the folder that it was saved in."""
    router = new_router(toy_config(notes={"macro_f1": 0.51234, "by_class": {}}), seed=0)
    save_router(router, tmp_path / "router")
    return router, tmp_path / "router"


def rewrite(folder, change):
    """Change the weights of a router's folder: a function on the dict of tensors."""
    file = folder / "model.safetensors"
    weights = safetensors.torch.load(file.read_bytes())
    change(weights)
    file.write_bytes(safetensors.torch.save(weights))


@pytest.mark.parametrize("head", ["none", "bottleneck", "low_rank"])
def test_what_is_saved_is_loaded(tmp_path, head):
    router = new_router(toy_config(head=head, bias=0.5), seed=1)
    router.static_logits.data.normal_(generator=torch.Generator().manual_seed(0))
    save_router(router, tmp_path / "r")
    found = load_router(resolve_router(str(tmp_path / "r")), fingerprint="0123456789abcdef", num_layers=3)
    assert found.config == router.config
    assert same_weights(found, router)
    assert not found.training


def test_the_card_is_a_hub_card_with_the_facts(saved):
    text = (saved[1] / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "layerpaths"
    for fact in ("| base model's fingerprint | 0123456789abcdef |", "| method | imitate |", "| macro_f1 | 0.5123 |"):
        assert fact in text


def test_saving_over_a_router_keeps_other_files_and_ends_its_training(saved):
    _, folder = saved
    for name in ("logs", ".training"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    other = new_router(toy_config(), seed=1)
    save_router(other, folder)
    assert same_weights(load_router(folder), other)
    assert (folder / "logs" / "file").exists()
    assert sorted(entry.name for entry in folder.iterdir()) == ["README.md", "config.json", "logs", "model.safetensors"]
    assert [entry.name for entry in folder.parent.iterdir()] == ["router"]


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize("failing_call", range(4))
def test_a_full_disk_leaves_the_old_router_whole(saved, monkeypatch, step, failing_call):
    router, folder = saved
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    target = {"open": "pathlib.Path.open", "fsync": "os.fsync", "replace": "os.replace"}[step]
    real = {"open": type(folder).open, "fsync": os.fsync, "replace": os.replace}[step]
    calls = []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == failing_call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    other = new_router(toy_config(), seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(target, full)
        failure = None
        try:
            save_router(other, folder)
        except PathgenError as error:
            failure = str(error)
    failed = len(calls) > failing_call
    assert failed == (failure is not None and "No space left on device" in failure)
    if failed:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert same_weights(load_router(folder), router if failed else other)
    assert [entry.name for entry in folder.parent.iterdir()] == ["router"]


def test_a_router_that_a_kill_left_aside_comes_back(saved, monkeypatch):
    router, folder = saved
    folder.rename(folder.with_name(".tmp-router-replaced"))
    folder.with_name(".tmp-router").mkdir()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(PathgenError, match="No space left"):
            save_router(new_router(toy_config(), seed=1), folder)
    assert same_weights(load_router(folder), router)
    assert [entry.name for entry in folder.parent.iterdir()] == ["router"]


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_kill_left_beside_the_new_router_moves_over(saved, ended):
    """Killed before the new router was in its place (an empty folder may have been made since), or after."""
    router, folder = saved
    (folder / "notes.txt").write_text("mine")
    (folder / ".training").mkdir()
    aside = folder.with_name(".tmp-router-replaced")
    folder.rename(aside)
    new = new_router(toy_config(), seed=1)
    if ended:
        save_router(new, folder.with_name("new"))
        folder.with_name("new").rename(folder)
    else:
        folder.mkdir()
    finish_swap(folder)
    assert same_weights(load_router(folder), new if ended else router)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / ".training").exists() != ended
    assert not aside.exists()


def test_a_link_to_a_folder_is_followed(saved):
    _, folder = saved
    link = folder.with_name("link")
    link.symlink_to(folder)
    new = new_router(toy_config(), seed=1)
    save_router(new, link)
    save_router(new, link)
    assert link.is_symlink()
    assert same_weights(load_router(folder), new)


def test_no_folder_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="there is no router folder"):
        load_router(tmp_path / "missing")
    with pytest.raises(InputError, match="there is no router folder"):
        load_router(resolve_router(str(tmp_path / "missing")))


@pytest.mark.parametrize("name", ["a\n" * 100_000, "/" + "b" * 5000])
def test_a_name_too_long_for_a_folder_is_no_router(name):
    with pytest.raises(InputError, match="there is no router folder") as caught:
        load_router(resolve_router(name))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "pytorch_model.bin is not read: only safetensors are",
        ),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not a router's config.json"),
        (lambda folder: os.truncate(folder / "model.safetensors", 200), "is damaged"),
        (lambda folder: os.truncate(folder / "model.safetensors", 0), "is damaged"),
        (
            lambda folder: rewrite(folder, lambda w: w.pop("heads.1.up.bias")),
            "1 tensors missing, first heads.1.up.bias",
        ),
        (lambda folder: rewrite(folder, lambda w: w.update(x=torch.ones(1))), "1 tensors too many, first x"),
        (
            lambda folder: rewrite(folder, lambda w: w.update({"heads.0.up.bias": torch.ones(4)})),
            r"heads.0.up.bias is float32 \[4\], not float32 \[3\]",
        ),
        (
            lambda folder: rewrite(folder, lambda w: w.update({"heads.0.up.bias": torch.ones(3).half()})),
            r"heads.0.up.bias is float16 \[3\]",
        ),
        (lambda folder: rewrite(folder, lambda w: w["static_logits"].fill_(float("nan"))), "static_logits holds NaN"),
    ],
)
def test_damage_is_told_in_one_line(saved, damage, message):
    damage(saved[1])
    with pytest.raises(ArtefactError, match=message) as caught:
        load_router(saved[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("notes", [], "notes is not a dict"),
        ("tasks", "arc", "tasks is not a list: 'arc'"),
        ("tasks", [1], "tasks and labels are names"),
        ("actions", "execute", "actions is not a list"),
        ("chat", "no", "chat is true, false or a day"),
        ("base_model", None, "base_model is not a str"),
        ("scale", 10**400, "is not a router's config.json"),
        ("num_layers", True, "num_layers must be a whole number"),
        ("pooling", {"windows": 10**12}, "windows 1 to 1024"),
        ("pooling", {"windows": 1.5}, "windows 1 to 1024"),
        ("pooling", [], "pooling is not a dict"),
    ],
)
def test_a_config_of_other_kinds_is_told_in_one_line(saved, setting, value, says):
    file = saved[1] / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), setting: value}))
    with pytest.raises(ArtefactError, match=says) as caught:
        load_router(saved[1])
    assert str(file) in str(caught.value)


def test_a_config_nested_without_end_is_told(saved):
    (saved[1] / "config.json").write_text("[" * 100_000)
    with pytest.raises(ArtefactError, match=r"is not a router's config\.json"):
        load_router(saved[1])


def test_nothing_is_allocated_for_a_config_larger_than_its_weights(saved):
    file = saved[1] / "config.json"
    huge = {"hidden_size": 100_000, "width": 100_000, "num_layers": 50_000}
    file.write_text(json.dumps({**json.loads(file.read_text()), **huge}))
    with pytest.raises(ArtefactError, match=r"does not fit its config.json: \d+ tensors missing"):
        load_router(saved[1])
    file.write_text(json.dumps({**json.loads(file.read_text()), **huge, "num_layers": 3}))
    with pytest.raises(ArtefactError, match=r"heads.0.down.weight is float32 .*, not float32 \[100000, 100000\]"):
        load_router(saved[1])


def test_a_router_of_another_model_is_refused(saved):
    with pytest.raises(ArtefactError, match="with fingerprint 0123456789abcdef; the model at hand has fedcba"):
        load_router(saved[1], fingerprint="fedcba")
    with pytest.raises(ArtefactError, match="number of layers 3; the model at hand has 30"):
        load_router(saved[1], num_layers=30)


def test_unknown_settings_in_a_config_are_refused(saved):
    file = saved[1] / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "red"}))
    with pytest.raises(ArtefactError, match="unknown settings: colour"):
        load_router(saved[1])


def test_a_hub_id_is_downloaded(saved, monkeypatch):
    router, folder = saved
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(folder))
    assert same_weights(load_router(resolve_router("someone/router")), router)

    def offline(name, **_):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="'someone/router' is not a local folder, and the hub does not provide it"):
        load_router(resolve_router("someone/router"))


class FakeHub:
    """A hub that is a folder."""

    def __init__(self, folder):
        self._folder = folder
        self.repos = []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.repos.append((repo_id, private, exist_ok))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self._folder / repo_id)


def test_pushing_uploads_a_router_that_loads(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    router = new_router(toy_config(), seed=0)
    assert upload_router(router, "someone/router", private=True) == "https://huggingface.co/someone/router"
    assert hub.repos == [("someone/router", True, True)]
    assert same_weights(load_router(tmp_path / "someone" / "router"), router)


def test_a_hub_that_refuses_is_told_in_one_line(monkeypatch):
    def refuse():
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)
    with pytest.raises(PathgenError, match="the hub refuses router someone/router: no network"):
        upload_router(new_router(toy_config(), seed=0), "someone/router")


@pytest.mark.parametrize(
    ("num_layers", "hidden_size", "base_parameters", "bound"),
    [(30, 576, 134_500_000, 0.02), (28, 3072, 3_200_000_000, 0.005), (32, 4096, 8_000_000_000, 0.005)],
)
def test_routers_are_small_beside_their_models(num_layers, hidden_size, base_parameters, bound):
    config = RouterConfig("m", "f", num_layers, hidden_size, ("arc",), "imitate", width=128)
    with torch.device("meta"):
        router = Router(config)
    per_head = hidden_size * 128 + 128 + 128 * 3 + 3
    assert router.num_parameters == num_layers * (per_head + 3)
    assert router.num_parameters / base_parameters < bound
