"""What an actor's frame promises its fleet, with work that only counts."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.fleet.work_thread import WorkThread

WAIT_S = 30.0
BREAKS, ENDS = "breaks", "ends"


@dataclass(frozen=True)
class Item:
    """A number to square, or a word that breaks the work."""

    key: str
    payload: Any


class Squares(WorkThread):
    """Finishes one number a round, commits them in pairs; starts a round only when the test lets it."""

    def __init__(self, capacity=4):
        self.waiting, self.uncommitted, self.squares = [], [], {}
        self.may_step = threading.Semaphore(0)
        super().__init__(capacity, lambda error: ENDS in str(error))

    @property
    def held(self):
        return len(self.waiting)

    @property
    def moved_at(self):
        return dict.fromkeys(map(str, self.waiting), time.monotonic())

    @property
    def counters(self):
        return {"squares": len(self.squares)}

    def take_up(self, item):
        number = item.payload
        if not isinstance(number, int):
            raise ValueError(f"it {number}")
        self.waiting.append(number)

    def step(self):
        if not self.waiting:
            return
        assert self.may_step.acquire(timeout=WAIT_S)
        number = self.waiting.pop(0)
        self.squares[number] = number**2
        self.uncommitted.append(str(number))
        self.publish(finished=[str(number)], failed=[str(number)] * (number == 0))
        if len(self.uncommitted) == 2:
            self.publish(durable=self.uncommitted)
            self.uncommitted = []

    def commit(self):
        committed, self.uncommitted = self.uncommitted, []
        return committed

    def close(self):
        return self.commit()


def items(*payloads):
    return [Item(str(payload), payload) for payload in payloads]


def listen(worker, number):
    """The reports until so many keys are finished."""
    found = []
    while sum(len(report.finished) for report in found) < number:
        found.append(worker.poll(WAIT_S))
    return found


def test_each_key_is_told_once_as_finished_and_once_as_durable():
    worker = Squares()
    worker.extend(items(0, 1, 2))
    worker.may_step.release(3)
    reports = [*listen(worker, 3), worker.drain()]
    told = {kind: [key for report in reports for key in getattr(report, kind)] for kind in ("finished", "durable")}
    assert told == {"finished": ["0", "1", "2"], "durable": ["0", "1", "2"]}
    assert [key for report in reports for key in report.failed] == ["0"]
    assert reports[-1].counters == {"squares": 3}


def test_what_is_held_takes_room_and_is_active_and_a_drain_leaves_it():
    worker = Squares(capacity=4)
    assert worker.poll(0.0).room == 4
    worker.extend(items(1, 2, 3))
    deadline = time.monotonic() + WAIT_S
    while len((report := worker.poll(0.01)).active) < 3:
        assert time.monotonic() < deadline
    assert (report.room, report.active.keys()) == (1, {"1", "2", "3"})

    def go_on_once_draining():
        while not worker._draining:
            time.sleep(0.01)
        worker.may_step.release(3)

    threading.Thread(target=go_on_once_draining, daemon=True).start()
    drained = worker.drain()
    assert (drained.finished, drained.durable) == (("1",), ("1",))
    assert worker.waiting == [2, 3]


def test_a_drain_commits_what_is_finished_while_a_long_round_goes_on():
    worker = Squares()
    worker.extend(items(1, 2))
    worker.may_step.release()
    assert listen(worker, 1)[-1].durable == ()
    threading.Thread(target=worker.drain, daemon=True).start()
    reports = [worker.poll(WAIT_S)]  # a drain wakes it
    while not any(report.durable for report in reports):
        reports.append(worker.poll(0.05))
    assert [key for report in reports for key in report.durable] == ["1"]
    assert worker.waiting == [2]  # whose round nobody has let begin
    worker.may_step.release()


def test_an_exception_of_the_thread_ends_a_poll_at_once_and_every_later_call():
    worker = Squares()
    threading.Timer(0.1, worker.extend, [items(BREAKS)]).start()
    for call in (lambda: worker.poll(WAIT_S), lambda: worker.extend(items(1)), worker.drain):
        with pytest.raises(ValueError, match=f"it {BREAKS}"):
            call()


def test_what_was_finished_is_told_before_the_exception_that_came_right_after():
    """A commit that fails is the likely one, and its fleet must know that items were finished and not committed."""

    class FullDisk(Squares):
        def step(self):
            if self.waiting:
                super().step()
                raise OSError("disk full")

    worker = FullDisk()
    worker.extend(items(1))
    worker.may_step.release()
    worker._thread.join(WAIT_S)
    assert worker.poll(WAIT_S).finished == ("1",)
    with pytest.raises(OSError, match="disk full"):
        worker.poll(WAIT_S)


def test_a_fatal_exception_ends_the_process_after_a_commit(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", lambda code: codes.append((code, worker.uncommitted)))
    worker = Squares()
    worker.extend(items(1))
    worker.may_step.release()
    listen(worker, 1)
    assert worker.uncommitted == ["1"]
    worker.extend(items(ENDS))
    worker._thread.join(WAIT_S)
    assert codes == [(1, [])]
