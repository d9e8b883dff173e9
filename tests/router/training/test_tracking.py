"""Trackers take figures, name what is missing, and never stop a training."""

from __future__ import annotations

import importlib.util

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pathgen.errors import InputError
from router.training.tracking import TRACKERS, Tracker


def test_tensorboard_files_hold_the_figures(tmp_path):
    with Tracker("tensorboard", tmp_path, {"epochs": 2, "actions": ("skip",), "patience": None}) as tracker:
        tracker.log({"loss": 0.5}, step=1)
        tracker.log({"loss": 0.25}, step=2)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def test_none_writes_nothing(tmp_path):
    with Tracker("none", tmp_path, {}) as tracker:
        tracker.log({"loss": 0.5}, step=1)
    assert not list(tmp_path.iterdir())


def test_unknown_and_missing_trackers_are_wrong_input(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none, tensorboard, wandb, mlflow, trackio"):
        Tracker("csv", tmp_path, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'layerpaths\[trackers\]'"):
        Tracker("wandb", tmp_path, {})


def test_every_tracker_is_known_to_accelerate():
    assert set(TRACKERS) - {"none"} <= set(LOGGER_TYPE_TO_CLASS)


@pytest.mark.parametrize("broken", ["start", "store_init_configuration", "log", "finish"])
def test_a_failing_tracker_is_told_once_and_stops_nothing(tmp_path, monkeypatch, caplog, broken):
    def fail(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(LOGGER_TYPE_TO_CLASS["tensorboard"], broken, fail)
    with Tracker("tensorboard", tmp_path, {}) as tracker:
        tracker.log({"loss": 0.5}, step=1)
        tracker.log({"loss": 0.5}, step=2)
    assert [record.message for record in caplog.records if "tracker" in record.message] == [
        "tracker tensorboard failed and is no longer used: no network"
    ]
