"""The feature actor as its fleet drives it, in this process."""

from __future__ import annotations

import time

import pytest
import torch

from pathgen import faults
from pathgen.actors.model_spec import ModelSpec
from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.question import Question
from router.features.features import FeatureKey, compute_here
from router.features.store import FeatureSet, FeatureStore
from router.features.worker import FeatureSettings, FeatureWorker
from router.net.pooling import Pooling

FULL = LayerPath.full(6)
KEYS = [FeatureKey(Question(str(n), f"{n} and {n}?", reference="0"), "math", False, FULL) for n in range(5)]
TOO_LONG = FeatureKey(Question("long", "x" * 600, reference="0"), "math", False, FULL)
FILE_KEYS = 4
WAIT_S = 60.0


@pytest.fixture
def settings(tmp_path, tiny_model):
    return FeatureSettings(
        out=str(tmp_path / "run"),
        model=ModelSpec(str(tiny_model), fingerprint(tiny_model), dtype="float32", device="cpu"),
        pooling=Pooling(),
        file_keys=FILE_KEYS,
    )


def reports_until(worker, durable):
    """What the worker says until so many keys are durable."""
    found, deadline = [], time.monotonic() + WAIT_S
    while sum(len(report.durable) for report in found) < durable:
        assert time.monotonic() < deadline
        found.append(worker.poll(0.1))
    return found


def test_a_file_is_committed_as_soon_as_it_is_full(settings, tiny_model):
    worker = FeatureWorker(settings, "w")
    keys = [*KEYS, TOO_LONG]
    assert worker.poll(0.0).room == FILE_KEYS
    worker.extend(keys)
    reports = reports_until(worker, len(keys))
    drained = worker.drain()

    assert [key for report in reports for key in report.durable] == [key.digest for key in keys]
    assert [key for report in reports for key in report.failed] == [TOO_LONG.digest]
    assert (drained.room, drained.counters) == (FILE_KEYS, {"computed": len(KEYS)})
    store = FeatureStore(settings.out, settings.model.fingerprint, settings.model.dtype, settings.pooling)
    store.scan("w")
    assert len(set(store.files.values())) == 2
    features = FeatureSet(store, keys, {}, 0.0)
    assert [key for key, _ in features.errors] == [TOO_LONG]
    wanted = compute_here(PathModel.from_pretrained(str(tiny_model)), KEYS, Pooling())
    torch.testing.assert_close(features.rows(range(len(KEYS))), wanted, atol=1e-4, rtol=1e-4)


def test_a_disk_that_fails_is_heard_by_the_fleet_and_holds_nothing(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "_passings", type(faults._passings)())
    monkeypatch.setenv(faults.VARIABLE, "mid-temp:1:enospc")
    worker = FeatureWorker(settings, "w")
    worker.extend(KEYS)
    with pytest.raises(PathgenError, match="No space left on device"):
        reports_until(worker, len(KEYS))
    with pytest.raises(PathgenError, match="No space left on device"):
        worker.drain()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
