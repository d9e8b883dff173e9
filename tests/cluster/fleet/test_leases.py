from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.fleet.leases import MAX_STRIKES, Leases
from cluster.fleet.protocol import Recovered, Report


@dataclass(frozen=True)
class Item:
    """A unit of work."""

    key: str
    payload: Any = None


def leases(*keys: str) -> Leases:
    return Leases(Item(key) for key in keys)


def keys(items: list[Item]) -> list[str]:
    return [item.key for item in items]


def test_items_are_read_only_as_far_as_they_are_needed():
    read = []
    source = (read.append(n) or Item(str(n)) for n in range(1000))
    ledger = Leases(source)
    assert ledger.waiting(2) == 2
    assert keys(ledger.take("w", 3)) == ["0", "1", "2"]
    assert len(read) == 3


def test_only_durable_items_survive_a_death():
    ledger = leases("a", "b", "c", "d")
    ledger.take("w", 4)
    ledger.record("w", Report(room=0, finished=("a", "b"), durable=("a",)))
    assert ledger.done == 2
    assert keys(ledger.held("w")) == ["b", "c", "d"]
    ledger.bury("w", Recovered())
    assert ledger.done == 1
    assert keys(ledger.take("x", 9)) == ["c"], "an unfinished one is a suspect: first, and alone"
    assert ledger.take("x", 9) == []
    assert keys(ledger.take("y", 9)) == ["d"]
    assert keys(ledger.take("z", 9)) == ["b"], "a finished one is under no suspicion"


def test_what_the_dead_actors_files_hold_is_done_or_goes_on_from_there():
    ledger = leases("a", "b", "c")
    ledger.take("w", 3)
    ledger.bury("w", Recovered(durable=frozenset("a"), items={"b": Item("b", "half way")}))
    assert ledger.done == 1
    assert ledger.take("x", 1) == [Item("b", "half way")]
    assert ledger.take("y", 1) == [Item("c")]


def test_late_and_repeated_news_change_nothing():
    ledger = leases("a", "b")
    ledger.take("w", 1)
    ledger.record("w", Report(room=0, durable=("a",)))
    ledger.record("w", Report(room=0, finished=("a", "b"), durable=("a", "b")))
    ledger.bury("w", Recovered())
    ledger.record("w", Report(room=0, durable=("b",)))
    assert ledger.done == 1
    assert keys(ledger.take("x", 5)) == ["b"]


def test_failures_follow_their_items():
    ledger = leases("a", "b")
    ledger.take("w", 2)
    ledger.record("w", Report(room=0, finished=("a", "b"), failed=("a", "b")))
    ledger.record("w", Report(room=0, durable=("a",)))
    assert (ledger.done, ledger.failed) == (2, 2)
    ledger.bury("w", Recovered())
    assert (ledger.done, ledger.failed) == (1, 1), "b's failure was lost with its actor"


def test_a_struck_item_goes_behind_the_fresh_ones_and_is_given_up_after_three():
    ledger = leases("poison", "a", "b")
    for strike in range(1, MAX_STRIKES + 1):
        writer = f"w{strike}"
        assert keys(ledger.take(writer, 1)) == ["poison"]
        given_up = ledger.bury(writer, Recovered())
        if strike == 1:
            assert keys(ledger.take("good", 9)) == ["a", "b"]
            assert ledger.take("good", 9) == [], "it does not share an actor"
            ledger.record("good", Report(room=9, durable=("a", "b")))
        assert keys(given_up) == (["poison"] if strike == MAX_STRIKES else [])
    assert (ledger.done, ledger.failed, ledger.waiting(9)) == (3, 1, 0)
    assert not ledger.hopeless


def test_a_death_among_several_items_is_no_strike():
    ledger = leases(*"abc")
    ledger.take("w", 3)
    ledger.bury("w", Recovered())
    assert [keys(ledger.take(writer, 3)) for writer in "xyz"] == [["a"], ["b"], ["c"]]
    ledger.bury("x", Recovered())
    ledger.bury("x2", Recovered())
    assert keys(ledger.take("x3", 3)) == ["a"]
    assert ledger.bury("x3", Recovered()) == [], "the second strike, not the third"


def test_three_deaths_before_any_item_are_hopeless():
    ledger = leases("a")
    for n in range(3):
        assert not ledger.hopeless
        ledger.bury(f"w{n}", Recovered())
    assert ledger.hopeless


def test_however_many_go_with_their_nodes_a_run_waits_for_other_nodes():
    ledger = leases("a", "b")
    for number in range(9):
        ledger.bury(f"starting-{number}", Recovered(), lost=True)
    assert not ledger.hopeless
    ledger.take("w", 1)
    assert ledger.bury("w", Recovered(), lost=True) == []
    assert not ledger.hopeless
    for number in range(2):
        ledger.bury(f"broken-{number}", Recovered())
    assert ledger.hopeless, "the two that died by themselves are the second and third"


def test_what_is_lost_with_a_node_goes_on_together_and_the_second_time_alone():
    ledger = leases(*"abcd")
    ledger.take("w", 3)
    ledger.bury("w", Recovered(), lost=True)
    assert sorted(keys(ledger.take("x", 3))) == ["a", "b", "c"]
    ledger.bury("x", Recovered(), lost=True)
    assert [keys(ledger.take(f"y{number}", 3)) for number in range(4)] == [["c"], ["b"], ["a"], ["d"]]


def test_an_item_whose_nodes_are_lost_each_time_is_given_up():
    ledger = leases("a")
    given_up = []
    for number in range(1 + MAX_STRIKES):
        ledger.take(f"w-{number}", 1)
        given_up += ledger.bury(f"w-{number}", Recovered(), lost=True)
    assert keys(given_up) == ["a"]


def test_an_actor_that_worked_before_may_die_idle():
    ledger = leases(*"abc")
    for key in "abc":
        ledger.take(key, 1)
        ledger.record(key, Report(room=1, durable=(key,)))
    for key in "abc":
        ledger.bury(key, Recovered())
    assert not ledger.hopeless


def test_starts_that_fail_while_others_work_end_nothing():
    ledger = leases("a", "b")
    ledger.take("w", 1)
    for writer in ("x", "y", "z"):
        ledger.bury(writer, Recovered(), broken=True)
    assert not ledger.hopeless


def test_three_different_single_items_are_hopeless_unless_something_is_finished():
    for finished_between in (False, True):
        ledger = leases(*"abcd")
        for n, key in enumerate("abc"):
            ledger.take(f"w{n}", 1)
            if finished_between and key == "c":
                ledger.take("good", 1)
                ledger.record("good", Report(room=0, finished=("d",)))
            ledger.bury(f"w{n}", Recovered())
        assert ledger.hopeless is not finished_between


def test_finished_work_that_is_never_committed_is_hopeless():
    ledger = leases("a", "b")
    for n in range(3):
        assert not ledger.hopeless
        ledger.take(f"w{n}", 2)
        ledger.record(f"w{n}", Report(room=0, finished=("a", "b")))
        ledger.bury(f"w{n}", Recovered(), broken=True)
    assert ledger.hopeless


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_of_events_settles_each_item_once(data):
    """Random leases, reports and deaths; up to two items kill whoever works on them."""
    count = data.draw(st.integers(1, 12))
    poison = data.draw(st.sets(st.integers(0, count - 1).map(str), max_size=2))
    ledger = Leases(Item(str(n)) for n in range(count))
    settled: Counter[str] = Counter()
    given_up: Counter[str] = Counter()
    lone_deaths: Counter[str] = Counter()
    born = 0
    alive = []
    while ledger.waiting(1) or any(ledger.held(writer) for writer in alive):
        if len(alive) < 2:
            alive.append(f"w{born}")
            born += 1
        writer = data.draw(st.sampled_from(alive))
        ledger.take(writer, data.draw(st.integers(1, 4)))
        working = ledger.unfinished(writer)
        lost = [key for key in working if key in poison]
        if lost or data.draw(st.integers(0, 9)) == 0:
            committed = frozenset(key for key in working if key not in poison and data.draw(st.booleans()))
            if len(guilty := set(working) - committed) == 1:
                lone_deaths.update(guilty)
            settled.update(committed)
            given_up.update(keys(ledger.bury(writer, Recovered(durable=committed))))
            alive.remove(writer)
            continue
        finished = tuple(key for key in working if data.draw(st.booleans()))
        durable = tuple(item.key for item in ledger.held(writer) if item.key not in working) + finished[:1]
        ledger.record(writer, Report(room=0, finished=finished, durable=durable))
        settled.update(durable)
    assert settled + given_up == Counter(str(n) for n in range(count))
    assert ledger.done == count
    assert ledger.failed == len(given_up)
    assert all(lone_deaths[key] == MAX_STRIKES for key in given_up)
    assert poison <= given_up.keys()
