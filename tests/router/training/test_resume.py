"""The state file: what is saved is what is loaded, and what cannot be used is told and left."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pathgen.errors import PathgenError
from router.training.resume import EpochReport, TrainingCheckpoint, TrainingState


def a_state() -> TrainingState:
    generator = torch.Generator().manual_seed(0)
    tensors = [{name: torch.randn(2, 3, generator=generator) for name in ("a.b", "c")} for _ in range(4)]
    history = (EpochReport(1, 0.1 + 0.2, 1 / 3, 0.5, 1.5), EpochReport(2, 0.1, 0.7, 0.25, 2.5))
    return TrainingState(history, 17, *tensors)


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    state = a_state()
    TrainingCheckpoint(tmp_path, "d").save(state)
    found = TrainingCheckpoint(tmp_path, "d").load()
    assert found is not None
    assert (found.history, found.step) == (state.history, 17)
    for field in ("weights", "best", "exp_avg", "exp_avg_sq"):
        saved, loaded = getattr(state, field), getattr(found, field)
        assert saved.keys() == loaded.keys()
        assert all(torch.equal(value, loaded[name]) for name, value in saved.items())


def test_nothing_saved_is_nothing_to_load(tmp_path, caplog):
    assert TrainingCheckpoint(tmp_path, "d").load() is None
    assert not caplog.text


def test_a_state_of_another_training_is_not_used(tmp_path, caplog):
    TrainingCheckpoint(tmp_path, "d").save(a_state())
    assert TrainingCheckpoint(tmp_path, "e").load() is None
    assert "is of other settings or data: training starts over" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_state_is_not_used(tmp_path, caplog, damage):
    TrainingCheckpoint(tmp_path, "d").save(a_state())
    file = tmp_path / ".training" / "state.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-10], "empty": b"", "other": content.replace(b'"exp_avg/c"', b'"exp_axx/c"')}[damage]
    )
    assert TrainingCheckpoint(tmp_path, "d").load() is None
    assert "cannot be read" in caplog.text


def test_a_full_disk_leaves_the_earlier_state(tmp_path, monkeypatch):
    checkpoint = TrainingCheckpoint(tmp_path, "d")
    checkpoint.save(a_state())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(PathgenError, match="No space left on device"):
            checkpoint.save(dataclasses.replace(a_state(), step=18))
    found = checkpoint.load()
    assert found is not None
    assert found.step == 17
    assert [file.name for file in (tmp_path / ".training").iterdir()] == ["state.safetensors"]
