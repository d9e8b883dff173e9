"""The fleet on real Ray actors. What an item does to its actor stands in its payload."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

import cluster.fleet.fleet
from cluster import ClusterError
from cluster.fleet.fleet import Fleet, FleetSettings
from cluster.fleet.leases import Leases
from cluster.fleet.protocol import Progress, Recovered, Report
from cluster.fleet.remote_actor import RemoteActor
from cluster.fleet.roster import Roster
from cluster.program.causes import cause_of

pytestmark = pytest.mark.ray

BATCH = 3


@dataclass(frozen=True)
class Item:
    """A unit of work."""

    key: str
    payload: Any = None


class Worker:
    """Works on up to three items at a time. Every start of an item and every result is a line of a file.

    Payloads: a number of seconds; `exit` and `kill` end the process; `exit once` does unless it began before;
    `hang` never ends; `hang once`; `raise` breaks the work thread; `fail` finishes as failed; `forget` is never
    made durable.
    """

    def __init__(self, folder: str, writer: str, births_that_fail: int):
        self.folder, self.writer = Path(folder), writer
        with (self.folder / "births").open("a") as births:
            births.write(f"{writer}\n")
        if len((self.folder / "births").read_text().splitlines()) <= births_that_fail:
            raise ValueError("no model here\nlook elsewhere")
        self.backlog: list[Item] = []
        self.active: dict[str, tuple[Item, float]] = {}
        self.finished: list[str] = []
        self.failed: list[str] = []
        self.unsaved: list[str] = []
        self.durable: list[str] = []
        self.count = 0
        self.broken: Exception | None = None
        self.draining = False
        self.news = threading.Condition()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        while True:
            time.sleep(0.01)
            with self.news:
                while self.backlog and len(self.active) < BATCH and not self.draining:
                    item = self.backlog.pop(0)
                    self.active[item.key] = (item, time.monotonic())
                    self.note("begun", item.key)
                for item, begun in list(self.active.values()):
                    try:
                        self.advance(item, begun)
                    except RuntimeError as error:
                        self.broken = error
                        self.news.notify_all()
                        return

    def advance(self, item: Item, begun: float) -> None:
        payload = item.payload
        if str(payload).endswith(" once"):
            first = self.noted("begun").count(item.key) == 1
            payload = payload.removesuffix(" once") if first else 0.0
        if payload == "exit":
            os._exit(1)
        if payload == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if payload == "raise":
            raise RuntimeError("disk full")
        if payload == "hang" or (isinstance(payload, float) and time.monotonic() - begun < payload):
            return
        del self.active[item.key]
        self.count += 1
        self.finished.append(item.key)
        if payload == "fail":
            self.failed.append(item.key)
        if payload != "forget":
            self.unsaved.append(item.key)
        if len(self.unsaved) >= 2:
            self.save()
        self.news.notify_all()

    def save(self) -> None:
        for key in self.unsaved:
            self.note("saved", key)
        self.durable += self.unsaved
        self.unsaved = []

    def note(self, file: str, key: str) -> None:
        with (self.folder / file).open("a") as lines:
            lines.write(f"{self.writer} {key}\n")

    def noted(self, file: str) -> list[str]:
        return [line.split()[1] for line in (self.folder / file).read_text().splitlines()]

    def extend(self, items: list[Item]) -> None:
        with self.news:
            self.backlog += items

    def poll(self, wait_s: float) -> Report:
        with self.news:
            self.news.wait_for(lambda: self.finished or self.durable or self.broken, wait_s)
            return self.report()

    def drain(self) -> Report:
        with self.news:
            self.draining = True
            self.save()
            return self.report()

    def report(self) -> Report:
        if self.broken:
            raise self.broken
        now = time.monotonic()
        stalled = {key: now - begun for key, (item, begun) in self.active.items() if "hang" in str(item.payload)}
        report = Report(
            room=BATCH + 1 - len(self.active) - len(self.backlog),
            active={key: stalled.get(key, 0.0) for key in self.active},
            finished=tuple(self.finished),
            failed=tuple(self.failed),
            durable=tuple(self.durable),
            counters={"items": self.count},
        )
        self.finished, self.failed, self.durable = [], [], []
        return report


@dataclass
class Owner:
    """Runs a fleet over a folder and keeps what the fleet told."""

    folder: Path
    births_that_fail: int = 0
    num_cpus: float = 1
    settings: dict[str, Any] = field(default_factory=dict)
    recovered: Recovered | None = None
    stop_at: int | None = None
    fail_at: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    given_up: dict[str, str] = field(default_factory=dict)
    recoveries: list[tuple[str, list[str]]] = field(default_factory=list)
    counters: Mapping[str, float] = field(default_factory=dict)

    def run(self, payloads: Mapping[str, Any], *, ahead: int = 0) -> Progress:
        """Ahead: actors start before the items are known, which are so many at most."""
        import ray

        actor = ray.remote(Worker).options(
            num_cpus=self.num_cpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )
        fleet = Fleet(
            lambda writer: actor.remote(str(self.folder), writer, self.births_that_fail),
            FleetSettings(**{"num_actors": 2, "poll_s": 0.2, "resources": {"CPU": self.num_cpus}, **self.settings}),
            recover=self.recover,
            on_failed=lambda item, error: self.given_up.update({item.key: error}),
            stop=self.stop,
        )
        if ahead:
            fleet.start(ahead)
        return fleet.run((Item(key, payload) for key, payload in payloads.items()), len(payloads), self.watch)

    def watch(self, progress: Progress) -> None:
        self.counters = progress.counters
        if self.fail_at is not None and progress.done >= self.fail_at:
            raise OSError("the terminal is gone")
        if self.stop_at is not None and progress.done >= self.stop_at:
            self.stop.set()

    def recover(self, writer: str, items: list[Item]) -> Recovered:
        self.recoveries.append((writer, [item.key for item in items]))
        if self.recovered is not None:
            return self.recovered
        saved = {tuple(line.split()) for line in self.lines("saved")}
        return Recovered(durable=frozenset(item.key for item in items if (writer, item.key) in saved))

    def lines(self, file: str) -> list[str]:
        return (self.folder / file).read_text().splitlines() if (self.folder / file).exists() else []

    def keys(self, file: str) -> Counter[str]:
        return Counter(line.split()[1] for line in self.lines(file))


@pytest.fixture
def owner(local_ray, tmp_path) -> Iterator[Owner]:
    """An owner whose actors need not be able to import this file."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield Owner(tmp_path)
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def quick(count: int) -> dict[str, Any]:
    return {f"q{n}": 0.0 for n in range(count)}


def test_every_item_is_done_once(owner):
    progress = owner.run(quick(23))
    assert owner.keys("saved") == Counter(quick(23).keys())
    assert (progress.done, progress.total, progress.failed) == (23, 23, 0)
    assert progress.rate > 0
    assert owner.counters == {"items": 23}
    assert owner.recoveries == []


def test_without_items_no_actor_is_made(owner):
    assert owner.run({}).done == 0
    assert owner.lines("births") == []


def test_no_more_actors_than_items(owner):
    owner.run(quick(1))
    assert len(owner.lines("births")) == 1


def idle_fleet(settings: FleetSettings) -> Fleet:
    """One that is asked step by step."""
    return Fleet(
        MagicMock(),
        settings,
        recover=MagicMock(),
        on_failed=MagicMock(),
        stop=threading.Event(),
    )


@pytest.mark.parametrize(("items", "taken"), [(100, 12), (20, 3), (1, 1)])
def test_near_the_end_no_actor_takes_more_than_its_share(items, taken):
    fleet = idle_fleet(FleetSettings(num_actors=8))
    fleet._leases = Leases(Item(str(number)) for number in range(items))
    fleet._resize()
    handle = MagicMock()
    fleet._continue(RemoteActor("w", handle, room=12))
    [given] = handle.extend.remote.call_args.args
    assert len(given) == taken


def test_actors_that_start_ahead_are_those_that_work(owner):
    progress = owner.run(quick(23), ahead=23)
    assert owner.keys("saved") == Counter(quick(23).keys())
    assert progress.done == 23
    assert 1 <= len(owner.lines("births")) <= 2


@pytest.mark.parametrize(("most", "items"), [(1, 1), (5, 1), (5, 0)])
def test_actors_that_start_ahead_are_no_more_than_there_may_be_items_and_go_if_there_are_none(owner, most, items):
    progress = owner.run(quick(items), ahead=most)
    assert (progress.done, progress.failed) == (items, 0)
    assert len(owner.lines("births")) <= min(2, most)


def test_an_actor_that_starts_ahead_and_fails_is_replaced(owner):
    owner.births_that_fail = 1
    assert owner.run(quick(5), ahead=5).done == 5


def test_a_killed_actor_costs_nothing_but_time(owner):
    progress = owner.run({**quick(4), "bad": "kill once", **{f"r{n}": 0.0 for n in range(8)}})
    assert set(owner.keys("saved").values()) == {1}
    assert progress.done == progress.total == sum(owner.keys("saved").values())
    assert owner.given_up == {}
    assert len(owner.recoveries) == 1


def test_poison_is_given_up_after_three_strikes_and_the_others_finish(owner):
    progress = owner.run({"poison": "exit", **quick(9)})
    assert owner.keys("saved") == Counter(quick(9).keys())
    assert list(owner.given_up) == ["poison"]
    assert "3 times" in owner.given_up["poison"]
    assert owner.keys("begun")["poison"] == 4, "once among others, which is no strike, then alone"
    assert (progress.done, progress.failed) == (10, 1)


def test_two_poisons_in_flight_together(owner):
    progress = owner.run({"q": 0.05, "poison1": "exit", "poison2": "kill", **quick(6)})
    assert sorted(owner.given_up) == ["poison1", "poison2"]
    assert owner.keys("saved") == Counter(["q", *quick(6)])
    assert (progress.done, progress.failed) == (9, 2)


def test_a_hanging_item_is_timed_out_and_tried_again(owner):
    owner.settings = {"item_timeout_s": 2.0}
    owner.run({"slow": "hang once", **quick(5)})
    assert owner.keys("saved") == Counter(["slow", *quick(5)])
    assert owner.keys("begun")["slow"] == 2


def test_a_failure_that_the_actor_records_is_counted(owner):
    progress = owner.run({"long": "fail", **quick(3)})
    assert (progress.done, progress.failed) == (4, 1)
    assert owner.given_up == {}


def test_a_first_start_may_fail(owner):
    owner.births_that_fail = 1
    owner.run(quick(5))
    assert owner.keys("saved") == Counter(quick(5).keys())


@pytest.mark.parametrize("working", [True, False])
def test_an_actor_that_hangs_in_its_start_is_made_anew_while_others_work(monkeypatch, local_ray, working):
    """On a clock of its own. Without others the run ends, however young the youngest is."""
    gone = []
    monkeypatch.setattr(RemoteActor, "kill", lambda actor: gone.append(actor.writer))
    now = time.monotonic()
    fleet = idle_fleet(FleetSettings(num_actors=3, start_timeout_s=60.0))
    fleet._any_ready_at = now - 61
    fleet._roster.add(RemoteActor("at work", MagicMock(), ready=working))
    fleet._roster.add(RemoteActor("hangs", MagicMock(), born_at=now - 61))
    fleet._roster.add(RemoteActor("starts", MagicMock(), born_at=now - 59))
    fleet._watch_clocks()
    assert gone == (["hangs"] if working else [])
    assert fleet._ending == (not working)


def test_after_starts_that_failed_it_rests_for_longer_and_longer(monkeypatch, local_ray):
    """On a clock of its own: each time a second passes, until an actor is made."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(cluster.fleet.fleet, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep))
    monkeypatch.setattr(Roster, "await_dismissed", lambda roster: None)
    monkeypatch.setattr(RemoteActor, "kill", lambda actor: None)
    fleet = idle_fleet(FleetSettings(num_actors=2))
    fleet._leases = Leases(Item(str(number)) for number in range(9))
    fleet._roster.add(RemoteActor("at work", MagicMock(), ready=True))
    fleet._leases.take("at work", 1)
    rests = []
    for _ in range(8):
        began = clock.now
        while len(fleet._roster) < 2:
            fleet._hire()
            clock.now += 1
        rests.append(clock.now - began - 1)
        (young,) = [actor for actor in fleet._roster if not actor.ready]
        fleet._bury(young, "OSError: no GPU", broken=True)
    assert rests == [0, 1, 2, 4, 8, 16, 32, 60]


def test_actors_that_never_start_end_the_run_with_the_cause(owner):
    owner.births_that_fail = 10**6
    with pytest.raises(ClusterError, match="ValueError: no model here") as caught:
        owner.run(quick(5))
    assert "\n" not in str(caught.value)
    assert 3 <= len(owner.lines("births")) <= 4


def test_actors_that_find_no_place_end_the_run_naming_the_resources(owner):
    owner.num_cpus = 64
    owner.settings = {"start_timeout_s": 1.0}
    with pytest.raises(ClusterError, match=r"each asks for 64 CPU; free in the cluster: .* of 2 CPU"):
        owner.run(quick(2))


def test_three_different_items_that_kill_end_the_run(owner):
    owner.settings = {"num_actors": 1}
    with pytest.raises(ClusterError, match="worker process has died"):
        owner.run({f"poison{n}": "exit" for n in range(9)})
    assert owner.given_up == {}


def test_an_error_of_the_work_thread_is_the_cause(owner):
    owner.settings = {"num_actors": 1}
    with pytest.raises(ClusterError, match="RuntimeError: disk full"):
        owner.run({f"bad{n}": "raise" for n in range(9)})


def test_results_that_are_never_committed_end_the_run(owner):
    with pytest.raises(ClusterError, match="uncommitted"):
        owner.run({"lost": "forget"})
    assert owner.keys("begun")["lost"] == 3


def test_what_recover_finds_is_not_run_again_and_the_rest_gets_its_new_payload(owner):
    owner.settings = {"num_actors": 1}
    owner.recovered = Recovered(durable=frozenset({"stored"}), items={"bad": Item("bad", 0.0)})
    progress = owner.run({"stored": 60.0, "bad": "exit", "other": 0.0})
    assert progress.done == 3
    assert owner.keys("begun")["stored"] == 1
    assert owner.keys("begun")["bad"] == 2
    assert len(owner.recoveries) == 1
    (writer, held), *_ = owner.recoveries
    assert {"stored", "bad"} <= set(held)
    assert owner.lines("births")[0] == writer


@pytest.mark.timeout(60)
def test_stop_drains_and_returns(owner):
    owner.stop_at = 3
    progress = owner.run({**quick(3), **{f"slow{n}": 100.0 for n in range(20)}})
    assert owner.keys("saved") == Counter(quick(3).keys()), "drained: what was finished is on disk"
    assert progress.done == 3
    assert owner.recoveries == []
    assert owner.given_up == {}


@pytest.mark.timeout(60)
def test_an_error_of_the_owner_ends_the_run_after_a_drain(owner):
    owner.fail_at = 3
    with pytest.raises(OSError, match="the terminal is gone"):
        owner.run({**quick(3), **{f"slow{n}": 100.0 for n in range(20)}})
    assert owner.keys("saved") == Counter(quick(3).keys())


def test_causes_are_one_line(local_ray):
    import ray

    assert cause_of(OSError(28, "disk full")) == "OSError: [Errno 28] disk full"
    assert cause_of(ValueError("first\nsecond")) == "ValueError: first"
    quoted = "No link: Traceback (most recent call last):\n  File x\na.b.LinkError: no token\n\n"
    assert cause_of(RuntimeError(quoted)) == "a.b.LinkError: no token"
    assert cause_of(ray.exceptions.RayError("Trace\n  File x\nKeyError: 'a'\n  more")) == "KeyError: 'a'"
    assert cause_of(ray.exceptions.RayError("")) == ""
    for address, where in (("10.0.0.7", " (on 10.0.0.7)"), ("127.0.0.1", "")):
        died = ray.exceptions.RayError(f"ray::W.__init__() (pid=1, ip={address}, actor_id=2)\nOSError: no GPU")
        assert cause_of(died) == f"OSError: no GPU{where}"
