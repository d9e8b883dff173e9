"""What a person sees of a training without a terminal: few lines, on stderr, the last one always."""

from __future__ import annotations

import time

import pytest

from router.training.resume import EpochReport
from router.training.view import TrainingView


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when told: set its `now`, in seconds."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


def run_epochs(clock, *, quiet, seconds_each):
    with TrainingView(5, 2, quiet=quiet) as view:
        for epoch in (3, 4, 5):
            clock.now += seconds_each
            view.report(EpochReport(epoch, 0.5, 0.25, 0.75, seconds_each))


def test_a_line_every_half_minute_and_the_last(clock, capsys):
    run_epochs(clock, quiet=False, seconds_each=20)
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        "training resumes after epoch 2",
        "training 4/5  loss 0.5000  dev loss 0.2500  macro-F1 0.750  ETA 0:20",
        "training 5/5  loss 0.5000  dev loss 0.2500  macro-F1 0.750  ETA 0:00",
    ]


def test_quiet_is_quiet(clock, capsys):
    run_epochs(clock, quiet=True, seconds_each=100)
    assert capsys.readouterr() == ("", "")
