import os
import pty
import subprocess
import sys

import pytest

from cluster.program import progress
from cluster.program.progress import LINE_EVERY_S, ProgressView, counted

COUNTERS = {"searched": 8, "solved": 4, "layers_saved": 20, "busy_s": 1.0}


@pytest.fixture
def clock(monkeypatch):
    """Sets the time."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def view(**changes):
    return ProgressView("searching", 20, 10, **({"quiet": False} | changes))


def test_without_a_terminal_a_line_every_30_seconds(capsys, clock):
    with view() as shown:
        for second in range(0, 95, 5):
            clock.now = float(second)
            shown.update(4, 1, 0.5, COUNTERS)
    out, err = capsys.readouterr()
    assert out == ""
    line = "searching 14/20  0.50 q/s  ETA 0:12  solved 50%  layers saved 5.0  failed 1"
    assert err.splitlines() == [line] * 3


def test_slow_rates_and_the_time_before_the_first_question(capsys, clock):
    with view() as shown:
        for rate, done, counters in ((0.0, 0, {}), (0.0, 0, {"busy_s": 2.0}), (0.01, 5, {"searched": 0})):
            clock.now += LINE_EVERY_S
            shown.update(done, 0, rate, counters)
    assert capsys.readouterr().err.splitlines() == [
        "searching 10/20  starting actors",
        "searching 10/20  working",
        "searching 15/20  0.6 q/min  ETA 8:20",
    ]


def test_what_took_no_work_says_nothing_of_the_rate(capsys, clock):
    with counted("questions", 100, quiet=False) as on_done:
        on_done(80, 0)
        for _ in range(4):
            clock.now += 10.0
            on_done(4)
    assert capsys.readouterr().err.splitlines() == ["questions 92/100  0.40 q/s  ETA 0:20"]


def test_hours_are_told(capsys, clock):
    with ProgressView("searching", 7300, quiet=False) as shown:
        clock.now = LINE_EVERY_S
        shown.update(100, 0, 1.0, {})
    assert "ETA 2:00:00" in capsys.readouterr().err


def test_quiet_shows_nothing(capsys, clock):
    with view(quiet=True) as shown:
        clock.now = 100.0
        shown.update(4, 0, 0.5, COUNTERS)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_on_stderr_and_stdout_untouched():
    program = (
        "from cluster.program.progress import ProgressView\n"
        "with ProgressView('searching', 20, 10, quiet=False) as view:\n"
        "    view.update(4, 0, 0.5, {'searched': 8, 'solved': 4, 'layers_saved': 20})\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert run.wait() == 0
    assert run.stdout is not None
    assert run.stdout.read() == b""
    assert "━" in shown.decode()
    assert b"14/20" in shown
    assert b"solved 50%" in shown


def _read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""
