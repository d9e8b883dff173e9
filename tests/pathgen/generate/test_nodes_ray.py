"""A cluster whose nodes come and go under a run: each question ends up there once, with the same record."""

from __future__ import annotations

import signal
import time
from functools import partial

import pytest
from fault_lab import COMMIT_AT_ONCE, Lab, assert_same, has, meanwhile, own_actors, records, start, wait_for
from ray_nodes import RayNodes, ray_nodes

import cluster.fleet.fleet
from cluster import ClusterError
from pathgen.actors.placement import CORES_PER_ACTOR
from pathgen.errors import InputError

pytestmark = [pytest.mark.ray, pytest.mark.slow]

QUESTIONS = 8
SIMULATIONS = 12


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes(**COMMIT_AT_ONCE) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def lab(nodes, tiny_model):
    with own_actors(Lab(nodes.address, nodes.process, tiny_model)) as lab, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.fleet.fleet, "_RESIZE_EVERY_S", 0.5)
        yield lab


@pytest.fixture
def add(nodes: RayNodes):
    """Makes a node join, by default with room for one actor; all that are left at the end of a test go."""
    names = []

    def join(cpus: int = CORES_PER_ACTOR) -> str:
        names.append(nodes.add(cpus))
        return names[-1]

    def leave(name: str) -> None:
        names.remove(name)
        nodes.lose(name)

    join.leave = leave
    yield join
    for name in list(names):
        leave(name)
    nodes.settle()


def generate(lab: Lab, out, faults=(), **options):
    defaults = {"actors": None, "in_flight": 1, "limit": QUESTIONS, "simulations": SIMULATIONS, "shared_fs": True}
    return lab.generate(out, faults, **(defaults | options))


@pytest.fixture(scope="module")
def whole(lab, nodes, tmp_path_factory):
    """The records of an uninterrupted run on one node."""
    name = nodes.add(CORES_PER_ACTOR)
    out = tmp_path_factory.mktemp("whole") / "run"
    assert generate(lab, out).exit_code == 0
    assert lab.births == 1
    nodes.lose(name)
    return records(out)


def test_a_node_that_joins_gets_an_actor_and_one_lost_with_two_is_done_without(lab, whole, add, tmp_path):
    out = tmp_path / "run"
    first = add(2 * CORES_PER_ACTOR)
    with meanwhile(
        (lambda: has(out, ".progress/*.parquet"), add),
        (lambda: lab.births > 2 and has(out, "paths/*.parquet"), lambda: add.leave(first)),
    ) as moments:
        outcome = generate(lab, out, ["patient", "patient"])
    assert outcome.exit_code == 0
    assert len(moments) == 2
    assert lab.births > 2
    assert_same(records(out), whole)


def test_all_nodes_gone_and_another_joins(lab, whole, add, tmp_path):
    out = tmp_path / "run"
    names = []
    with meanwhile(
        (lambda: lab.births, lambda: names.append(add())),
        (lambda: has(out, "paths/*.parquet"), lambda: add.leave(names[0])),
        (lambda: lab.births > 1, partial(time.sleep, 1)),
        (lambda: True, add),
    ) as moments:
        outcome = generate(lab, out, ["slow"])
    assert outcome.exit_code == 0
    assert len(moments) == 4
    assert_same(records(out), whole)


def test_a_killed_driver_takes_its_actors_along_and_the_same_command_goes_on(lab, whole, add, tmp_path):
    out = tmp_path / "run"
    add()
    more = ("--address", lab.address, "--shared-fs", "--limit", str(QUESTIONS), "--simulations", str(SIMULATIONS))
    driver = start(lab.command(out, *more))
    wait_for(lambda: has(out, "paths/*.parquet") or driver.poll() is not None)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    wait_for(lambda: not lab.actors(), limit_s=30)
    outcome = generate(lab, out)
    assert outcome.exit_code == 0
    assert 0 < outcome.summary.done_before < QUESTIONS
    assert_same(records(out), whole)


def test_actors_that_find_no_place_are_waited_for_only_while_none_works(lab, whole, add, tmp_path):
    add(1)
    outcome = generate(lab, tmp_path / "run", actors=2, start_timeout_s=90)
    assert outcome.exit_code == 0
    assert lab.births == 2
    assert_same(records(tmp_path / "run"), whole)


def test_no_node_ever_ends_the_run_naming_what_lacks(lab, tmp_path):
    with pytest.raises(
        ClusterError,
        match=r"no actor was ready within .* 2 s: each asks for 1 CPU; free .* 0 of 0 CPU",
    ):
        generate(lab, tmp_path / "run", start_timeout_s=2)


def test_a_local_folder_is_refused_on_several_nodes_and_bound_to_this_one_otherwise(lab, add, tmp_path):
    with pytest.raises(ClusterError):
        generate(lab, tmp_path / "run", shared_fs=False, start_timeout_s=1)
    assert lab.bound_to is not None
    add()
    with pytest.raises(InputError, match="is a local folder and the cluster has 2 nodes"):
        generate(lab, tmp_path / "run", shared_fs=False)
    assert lab.births == 0
