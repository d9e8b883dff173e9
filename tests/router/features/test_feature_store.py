"""Features on disk come back as they were, or not at all."""

from __future__ import annotations

import logging

import pytest
import torch

from pathgen import faults
from pathgen.errors import ArtefactError, PathgenError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from router.features import store as feature_store
from router.features.features import FeatureKey
from router.features.store import FeatureSet, FeatureStore
from router.net.pooling import Pooling

SHAPE = (3, 8, 4)
KEYS = [
    FeatureKey(Question(str(n), f"Question {n}", reference="0"), "math", False, LayerPath.full(3)) for n in range(6)
]
DTYPE = "bfloat16"


@pytest.fixture(params=["folder", "url"])
def out(request, tmp_path):
    return str(tmp_path / "run") if request.param == "folder" else f"memory://{tmp_path.name}"


def store_in(out, fingerprint="f00d", dtype=DTYPE, pooling=None):
    store = FeatureStore(str(out), fingerprint, dtype, pooling or Pooling())
    store.scan()
    return store


def rows_of(keys):
    generator = torch.Generator().manual_seed(0)
    return {key.digest: torch.randn(SHAPE, generator=generator).to(torch.bfloat16) for key in keys}


def files(tmp_path):
    return sorted((tmp_path / "run").rglob("*.safetensors"))


def test_rows_come_back_as_float32_in_the_order_asked(out, monkeypatch):
    monkeypatch.setattr(feature_store, "OPEN_FILES", {True: 1, False: 1})
    rows = rows_of(KEYS)
    writing = FeatureStore(out, "f00d", DTYPE, Pooling())
    for n in range(3):
        writing.write("w", {key.digest: rows[key.digest] for key in KEYS[n::3]}, {})
    features = FeatureSet(store_in(out), KEYS, {}, 0.0)
    assert features.keys == tuple(KEYS)
    found = features.rows([5, 0, 5, 3])
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.stack([rows[KEYS[n].digest] for n in (5, 0, 5, 3)]).float())


def test_a_key_with_an_error_is_left_out_and_told(out):
    FeatureStore(out, "f00d", DTYPE, Pooling()).write("w", rows_of(KEYS[:1]), {KEYS[1].digest: "too long"})
    features = FeatureSet(store_in(out), KEYS[:3], {KEYS[2].digest: "its actor died"}, 0.0)
    assert (len(features), features.keys) == (1, (KEYS[0],))
    assert features.errors == ((KEYS[1], "too long"), (KEYS[2], "its actor died"))


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "empty"])
def test_a_damaged_file_is_deleted_and_told_and_the_others_stay(tmp_path, damage, caplog):
    out = tmp_path / "run"
    for key in KEYS[:2]:
        store_in(out).write("w", rows_of([key]), {})
    victim = files(tmp_path)[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes({"flipped bit": data, "cut short": data[: len(data) // 2], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        store = store_in(out)
    assert f"{victim} is damaged" in caplog.text
    assert list(store.files.values()) == [str(file) for file in files(tmp_path)] != []
    assert not victim.exists()


@pytest.mark.parametrize(
    "other",
    [{"fingerprint": "beef"}, {"pooling": Pooling(windows=4)}, {"pooling": Pooling("last", 1)}, {"dtype": "float32"}],
)
def test_features_of_another_model_pooling_or_dtype_are_others(out, other):
    store_in(out).write("w", rows_of(KEYS), {})
    assert len(store_in(out).files) == len(KEYS)
    assert not store_in(out, **other).files


def test_stored_nan_is_refused_by_name(out):
    rows = rows_of(KEYS)
    rows[KEYS[1].digest][0, 0, 0] = float("inf")
    store_in(out).write("w", rows, {})
    features = FeatureSet(store_in(out), KEYS, {}, 0.0)
    assert features.rows([0, 2]).isfinite().all()
    with pytest.raises(ArtefactError, match="NaN or Inf for question 1"):
        features.rows([0, 1])


def test_a_file_that_vanishes_is_told(tmp_path):
    store_in(tmp_path / "run").write("w", rows_of(KEYS), {})
    features = FeatureSet(store_in(tmp_path / "run"), KEYS, {}, 0.0)
    files(tmp_path)[0].unlink()
    with pytest.raises(ArtefactError, match="run the same command again"):
        features.rows([0])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    store = store_in(tmp_path / "run")
    store.write("w", rows_of(KEYS), {})
    path = files(tmp_path)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(PathgenError, match=f"cannot read {path}: Is a directory"):
        store_in(tmp_path / "run")


def test_a_scan_of_one_writer_finds_its_files_alone(out):
    store_in(out).write("w-1", rows_of(KEYS[:1]), {})
    store_in(out).write("w-2", rows_of(KEYS[1:2]), {})
    store = FeatureStore(out, "f00d", DTYPE, Pooling())
    store.scan("w-2")
    assert list(store.files) == [KEYS[1].digest]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    store = store_in(tmp_path / "run")
    monkeypatch.setattr(faults, "_passings", type(faults._passings)())
    monkeypatch.setenv(faults.VARIABLE, "mid-temp:1:enospc")
    with pytest.raises(PathgenError, match=f"cannot write {store.folder}/part-w-.*No space left on device"):
        store.write("w", rows_of(KEYS), {})
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
