"""Publishing progress costs the work nothing, whatever becomes of the board. Reading it is tested on a real cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import ray

import cluster.fleet.status
from cluster.fleet.protocol import Progress
from cluster.fleet.status import EVERY_S, FleetStatus, Publisher, publishing


class FakeBoard:
    """A board's handle: `write.remote` keeps what it is sent, or breaks."""

    def __init__(self):
        self.written = []
        self.broken = False
        self.answers = True
        self.write = self

    def remote(self, status):
        if self.broken:
            raise ConnectionError("the cluster is gone")
        self.written.append(status)
        return f"call {len(self.written)}"


@dataclass
class Scene:
    """A publisher, the board it makes, and the clock it goes by."""

    board: FakeBoard = field(default_factory=FakeBoard)
    boards_made: int = 0
    now_s: float = 100.0

    def make_board(self) -> FakeBoard:
        self.boards_made += 1
        return self.board

    def publisher(self, done_before: int = 0) -> Publisher:
        return Publisher(self.make_board, "searching out", done_before)

    def done(self) -> list[int]:
        return [status["done"] for status in self.board.written]


@pytest.fixture
def scene(monkeypatch):
    scene = Scene()
    monkeypatch.setattr(cluster.fleet.status, "time", SimpleNamespace(monotonic=lambda: scene.now_s))
    monkeypatch.setattr(ray, "kill", lambda board: board.remote("killed"))
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (refs if scene.board.answers else [], []))
    return scene


def test_earlier_calls_are_counted_in(scene):
    publish = scene.publisher(done_before=10)
    scene.now_s += EVERY_S
    publish(Progress(done=5, total=20, failed=1, seconds=10.0))
    status = FleetStatus(**scene.board.written[0])
    assert status == FleetStatus("searching out", done=15, total=30, failed=1, rate=0.5)
    assert status.eta_s == 30.0
    assert FleetStatus("searching out", 0, 30, 0, 0.0).eta_s is None


def test_a_short_run_makes_no_board_and_a_long_one_sends_now_and_then(scene):
    publish = scene.publisher()
    for done in range(1, 13):  # a second apart
        scene.now_s += 1.0
        publish(Progress(done, 20, 0, done))
        assert scene.boards_made == (done >= EVERY_S)
    assert scene.done() == [5, 10]


def test_a_board_that_hangs_is_sent_nothing_more(scene):
    publish = scene.publisher()
    scene.board.answers = False
    for done in (1, 2, 3):
        scene.now_s += EVERY_S
        publish(Progress(done, 10, 0, 1.0))
    assert scene.done() == [1]
    scene.board.answers = True
    publish(Progress(4, 10, 0, 1.0))
    assert scene.done() == [1, 4]


def test_a_board_that_is_gone_does_not_hurt_the_work(scene):
    scene.board.broken = True
    publish = scene.publisher()
    scene.now_s += EVERY_S
    publish(Progress(1, 10, 0, 1.0))
    publish.close()
    assert scene.boards_made == 1
    assert not scene.board.written


def test_an_embedded_ray_has_no_board():
    with publishing("w", 0, shared=False) as publish:
        publish(Progress(1, 10, 0, 1.0))
    assert not ray.is_initialized()
