"""Publishing progress costs the work nothing, whatever becomes of the board. Reading it is tested on a real cluster."""

from __future__ import annotations

import pytest
import ray

from cluster.fleet_status import FleetStatus, _Publisher, publishing
from cluster.protocol import Progress


class FakeBoard:
    """A board's handle: `write.remote` keeps what it is sent, or breaks."""

    def __init__(self):
        self.written = []
        self.broken = False
        self.write = self

    def remote(self, status):
        if self.broken:
            raise ConnectionError("the cluster is gone")
        self.written.append(status)
        return f"call {len(self.written)}"


@pytest.fixture
def board(monkeypatch):
    answered = set()
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (refs if set(refs) <= answered else [], []))
    board = FakeBoard()
    board.answer = answered.add
    return board


def test_earlier_calls_are_counted_in(board):
    _Publisher(board, "searching out", 10, "01")(Progress(done=5, total=20, failed=1, seconds=10.0))
    status = FleetStatus(**board.written[0])
    assert status == FleetStatus("searching out", "01", done=15, total=30, failed=1, rate=0.5)
    assert status.eta_s == 30.0
    assert FleetStatus("searching out", "01", 0, 30, 0, 0.0).eta_s is None


def test_a_board_that_hangs_is_sent_nothing_more(board):
    publish = _Publisher(board, "w", 0, "01")
    for done in (9, 10, 10):  # the last of all is sent at once, without waiting for a second to pass
        publish(Progress(done, 10, 0, 1.0))
    assert [status["done"] for status in board.written] == [9]
    board.answer("call 1")
    publish(Progress(10, 10, 0, 1.0))
    assert [status["done"] for status in board.written] == [9, 10]


def test_progress_within_a_second_is_not_sent(board):
    publish = _Publisher(board, "w", 0, "01")
    publish(Progress(1, 10, 0, 1.0))
    board.answer("call 1")
    publish(Progress(2, 10, 0, 1.0))
    assert [status["done"] for status in board.written] == [1]


def test_a_board_that_is_gone_does_not_hurt_the_work(board):
    board.broken = True
    _Publisher(board, "w", 0, "01")(Progress(1, 10, 0, 1.0))


def test_an_embedded_ray_has_no_board():
    with publishing("w", 0, shared=False) as publish:
        publish(Progress(1, 10, 0, 1.0))
    assert not ray.is_initialized()
