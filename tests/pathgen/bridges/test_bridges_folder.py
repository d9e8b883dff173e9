"""A folder of bridges gives back what was saved, and anything else is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pathgen.bridges.folder import (
    INFO_NAME,
    WEIGHTS_NAME,
    digest_of,
    files_of,
    load_bridges,
    local_reader,
    read_info,
    save_bridges,
    weights_of,
)
from pathgen.bridges.info import BridgesInfo
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.errors import ArtefactError, InputError

LAYERS, WIDTH, RANK = 3, 8, 2
INFO = BridgesInfo(
    model_id="tiny",
    fingerprint="f00d",
    num_layers=LAYERS,
    width=WIDTH,
    rank=RANK,
    ridge=1e-3,
    text=("arc",),
    tokens=1000,
    r2=(0.5, 0.25, 0.75),
    digest="",
)


def made_up(rank: int | None = RANK, seed: int = 0) -> Bridges:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Bridges(
        tuple(
            Bridge(random(rank or WIDTH, WIDTH), random(WIDTH, rank) if rank else None, random(WIDTH))
            for _ in range(LAYERS)
        )
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_bridges(made_up(), INFO, tmp_path / "maps")
    return tmp_path / "maps"


@pytest.mark.parametrize("rank", [RANK, None])
def test_what_is_saved_is_read_back(rank: int | None, tmp_path: Path) -> None:
    bridges, folder = made_up(rank), tmp_path / "maps"
    save_bridges(bridges, replace(INFO, rank=rank), folder)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted([INFO_NAME, WEIGHTS_NAME])
    found = load_bridges(folder, "f00d")
    assert found.info == replace(INFO, rank=rank, digest=digest_of(weights_of(bridges)))
    assert found.digest == found.info.digest
    assert (found.num_layers, found.width, found.parameters) == (LAYERS, WIDTH, bridges.parameters)
    for ours, theirs in zip(found.maps, bridges.maps, strict=True):
        assert torch.equal(ours.down, theirs.down)
        assert torch.equal(ours.bias, theirs.bias)
        assert (ours.up is None) == (theirs.up is None)
        assert ours.up is None or torch.equal(ours.up, theirs.up)
    assert files_of(found) == {path.name: path.read_bytes() for path in folder.iterdir()}, "copied byte for byte"
    assert weights_of(made_up(rank, seed=1)) != weights_of(bridges)


def test_bridges_of_another_model_are_refused(saved: Path) -> None:
    for read in (load_bridges, lambda folder, digest: read_info(local_reader(folder), str(folder), digest)):
        with pytest.raises(ArtefactError, match=r"bridges of tiny \(f00d\); the model at hand is beef"):
            read(saved, "beef")
    assert load_bridges(saved).num_layers == LAYERS, "any model, if none is named"


def test_a_folder_without_bridges_is_wrong_input(tmp_path: Path, saved: Path) -> None:
    (saved / INFO_NAME).rename(tmp_path / "elsewhere")
    for folder in (saved, tmp_path / "no such folder", tmp_path / "elsewhere"):
        with pytest.raises(InputError, match=r"holds no bridges .*pathgen bridge"):
            load_bridges(folder)


def test_missing_or_changed_weights_are_refused(saved: Path) -> None:
    weights = saved / WEIGHTS_NAME
    content = weights.read_bytes()
    for damaged in (content[:-4], content[:-1] + bytes([content[-1] ^ 1]), weights_of(made_up(seed=1)), b"", None):
        weights.unlink(missing_ok=True)
        if damaged is not None:
            weights.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=f"{WEIGHTS_NAME} is not the file that {INFO_NAME} names"):
            load_bridges(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": LAYERS + 1}, "9 tensors, not the 12 of 4 layers"),
        ({"rank": None}, "9 tensors, not the 6 of 3 layers"),
        ({"width": WIDTH + 1}, r"no finite float32 tensor of shape \(2, 9\)"),
        ({"rank": RANK + 1}, r"no finite float32 tensor of shape \(3, 8\)"),
    ],
)
def test_weights_that_do_not_fit_their_description_are_refused(change: dict, message: str, saved: Path) -> None:
    info = load_bridges(saved).info
    assert info is not None
    (saved / INFO_NAME).write_bytes(replace(info, **change).to_json())
    with pytest.raises(ArtefactError, match=message):
        load_bridges(saved)


@pytest.mark.parametrize("broken", ["nan", "half", "no safetensors"])
def test_weights_that_are_no_usable_maps_are_refused(broken: str, saved: Path) -> None:
    bridges, info = made_up(), load_bridges(saved).info
    assert info is not None
    if broken == "nan":
        bridges.maps[1].bias[3] = float("nan")
    if broken == "half":
        bridges = bridges.placed([torch.device("cpu")] * LAYERS, torch.float16)
    content = b"no safetensors" if broken == "no safetensors" else weights_of(bridges)
    (saved / WEIGHTS_NAME).write_bytes(content)
    (saved / INFO_NAME).write_bytes(replace(info, digest=digest_of(content)).to_json())
    with pytest.raises(ArtefactError, match=f"{WEIGHTS_NAME} is damaged"):
        load_bridges(saved)


@pytest.mark.parametrize(("old", "new"), [("{", ""), ('"ridge"', '"rigde"'), ('"num_layers": 3', '"num_layers": "3"')])
def test_a_damaged_description_is_refused(old: str, new: str, saved: Path) -> None:
    text = (saved / INFO_NAME).read_text()
    assert old in text
    (saved / INFO_NAME).write_text(text.replace(old, new, 1))
    with pytest.raises(ArtefactError, match="no output of `pathgen bridge`, or damaged") as caught:
        load_bridges(saved)
    assert "\n" not in str(caught.value)


def test_a_description_of_another_version_is_refused(saved: Path) -> None:
    text = (saved / INFO_NAME).read_text()
    (saved / INFO_NAME).write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(ArtefactError, match="fit the bridges again"):
        load_bridges(saved)


def test_nothing_is_overwritten_and_nothing_is_half_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(InputError, match="exists; give a new folder"):
        save_bridges(made_up(seed=1), INFO, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before

    def full_disk(info: BridgesInfo) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(BridgesInfo, "to_json", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_bridges(made_up(), INFO, saved.with_name("other"))
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
