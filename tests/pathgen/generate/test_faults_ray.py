"""Runs that are killed, hung, starved or stopped: each question ends up there once, with the same record."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest
from fault_lab import (
    LIMIT,
    Lab,
    assert_same,
    depth,
    has,
    is_actor,
    meanwhile,
    own_actors,
    ray_in_a_process,
    records,
    signal_when,
    start,
    under_way,
    wait_for,
)

from cluster import ClusterError
from cluster.program.errors import Interrupted
from pathgen.models.facts import fingerprint
from pathgen.questions.loading import load_questions
from pathgen.store.committed import CommittedRows
from pathgen.store.files import open_folder
from pathgen.store.folder_lock import RunLease
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_folder import RunDirectory
from pathgen.store.schema import from_table
from pathgen.store.writer import RecordWriter

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FIRST = load_questions("builtin", needs="choices", limit=1)[0].id
LAYERS = 6


@pytest.fixture(scope="module")
def lab(tiny_model):
    with ray_in_a_process() as (address, process), own_actors(Lab(address, process, tiny_model)) as lab:
        yield lab


@pytest.fixture(scope="module")
def whole(lab, tmp_path_factory):
    """The records of an uninterrupted run, and its summary."""
    out = tmp_path_factory.mktemp("whole") / "run"
    outcome = lab.generate(out)
    assert outcome.exit_code == 0
    found = records(out)
    assert outcome.summary.layer_executions == sum(depth(record.evaluations) for record in found.values())
    return found, outcome.summary


@pytest.mark.parametrize("fault", ["after-step:9:kill", "during-progress-swap:7:kill", "after-rename:1:kill"])
def test_a_killed_actor_is_replaced(lab, whole, tmp_path, fault):
    assert lab.generate(tmp_path / "run", [fault]).exit_code == 0
    assert lab.births == 2
    assert_same(records(tmp_path / "run"), whole[0])


@pytest.mark.parametrize(("state", "actors"), [(".progress/*.parquet", 2), ("paths/*.parquet", 3)])
def test_a_killed_driver_takes_its_actors_along_and_more_of_them_go_on_at_once(lab, whole, tmp_path, state, actors):
    out = tmp_path / "run"
    driver = start(lab.command(out, "--address", lab.address))
    wait_for(lambda: has(out, state) or driver.poll() is not None)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    wait_for(lambda: not lab.actors(), limit_s=30)
    outcome = lab.generate(out, actors=actors, in_flight=1)
    assert outcome.exit_code == 0
    assert not lab.said  # neither a wait for the lease nor a broken file
    assert 0 < outcome.summary.layer_executions < whole[1].layer_executions
    assert_same(records(out), whole[0])


@pytest.mark.parametrize("state", [".progress/*.parquet", "paths/*.parquet"])
def test_driver_actors_and_ray_killed_together(lab, whole, tmp_path, state):
    out = tmp_path / "run"
    driver = start(lab.command(out))
    wait_for(lambda: has(out, state) or driver.poll() is not None)
    victims = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    assert any(is_actor(victim) for victim in victims)
    for victim in victims:
        victim.kill()
    assert driver.wait() == -signal.SIGKILL
    assert lab.generate(out).exit_code == 0
    assert_same(records(out), whole[0])


def test_a_question_that_kills_fails_alone_and_is_tried_again(lab, whole, tmp_path):
    out = tmp_path / "run"
    outcome = lab.generate(out, [f"take-up-{FIRST}:1:kill"], for_all=True)
    assert (outcome.exit_code, outcome.summary.failed) == (3, 1)
    found = records(out)
    poison = found.pop(FIRST)
    assert (poison.status, poison.attempts) == ("failed", 1)
    assert "died 3 times" in poison.error
    assert_same(found, {name: record for name, record in whole[0].items() if name != FIRST})

    left = lab.generate(out, retry_failed=False)
    assert (left.exit_code, lab.births) == (3, 0)
    again = lab.generate(out)
    assert (again.exit_code, again.summary.searched, again.summary.failed) == (0, 1, 0)
    assert_same(records(out), whole[0])


def test_a_hanging_actor_is_replaced(lab, whole, tmp_path):
    assert lab.generate(tmp_path / "run", ["after-step:9:hang"], question_timeout_s=3).exit_code == 0
    assert lab.births == 2
    assert_same(records(tmp_path / "run"), whole[0])


def test_a_cuda_context_that_has_failed_takes_its_process_along(lab, whole, tmp_path):
    assert lab.generate(tmp_path / "run", ["cuda"]).exit_code == 0
    first, second = (tmp_path / "pids").read_text().split()
    assert first != second
    assert_same(records(tmp_path / "run"), whole[0])


def test_what_a_writer_given_up_for_dead_commits_late_is_not_counted_twice(lab, whole, tmp_path):
    out = tmp_path / "run"

    def write_again() -> None:
        token = json.loads((out / ".lease.json").read_text())["token"]
        rows = list(from_table(RunDirectory(str(out)).committed.table()))
        late = RecordWriter(
            str(out), "w-presumed-dead", ShardMetadata.here(str(lab.model), fingerprint(lab.model), "arc"), token
        )
        for record in rows:
            record.writer = late.writer
            late.add(record)
        late.commit()

    with meanwhile((lambda: has(out, "paths/*.parquet"), write_again)) as moments:
        assert lab.generate(out, ["slow"]).exit_code == 0
    assert moments
    assert_same(records(out), whole[0])


def test_what_was_evaluated_is_not_run_again(lab, whole, tmp_path):
    for attempt in range(5):  # a signal that falls between two questions, or comes too late, shows nothing
        out = tmp_path / f"run{attempt}"
        with signal_when(signal.SIGINT, lambda out=out: has(out, ".progress/*.parquet")):
            first = lab.generate(out)
        assert not has(out, ".lease.json")
        if halfway := sum(depth(evaluations) for evaluations in under_way(out).values()):
            break
    assert first.exit_code == 128 + signal.SIGINT
    assert halfway > 0
    second = lab.generate(out)
    assert second.exit_code == 0
    assert second.summary.continued > 0
    for name in ("simulations", "layer_executions"):
        assert getattr(first.summary, name) + getattr(second.summary, name) == getattr(whole[1], name)
    assert_same(records(out), whole[0])


def test_more_simulations_and_questions_cost_only_the_difference(lab, whole, tmp_path):
    out = tmp_path / "run"
    first = lab.generate(out, simulations=10, limit=LIMIT - 2)
    second = lab.generate(out)
    assert second.summary.searched == LIMIT
    assert second.summary.continued == LIMIT - 2
    assert first.summary.layer_executions + second.summary.layer_executions == whole[1].layer_executions
    assert_same(records(out), whole[0])

    fewer = lab.generate(out, simulations=10)
    assert (fewer.exit_code, fewer.summary.done_before, lab.births) == (0, LIMIT, 0)
    assert_same(records(out), whole[0])


@pytest.mark.parametrize("actors", [2, 3])
def test_the_number_of_actors_changes_no_record(lab, whole, tmp_path, actors):
    assert lab.generate(tmp_path / "run", actors=actors, in_flight=1).exit_code == 0
    assert lab.births == actors
    assert_same(records(tmp_path / "run"), whole[0])


def test_actors_that_never_start_end_the_run_with_the_cause(lab, tmp_path):
    with pytest.raises(ClusterError, match="the disk with the model is gone") as caught:
        lab.generate(tmp_path / "run", ["birth"], for_all=True)
    assert "\n" not in str(caught.value)
    assert lab.births == 3


def test_a_full_disk_ends_the_run_and_harms_nothing_committed(lab, whole, tmp_path):
    out = tmp_path / "run"
    lab.generate(out, limit=2)
    with pytest.raises(ClusterError, match="No space left on device") as caught:
        lab.generate(out, ["before-temp:1+:enospc"], for_all=True)
    assert "\n" not in str(caught.value)
    assert lab.generate(out, limit=2).summary.done_before == 2
    assert lab.generate(out).exit_code == 0
    assert_same(records(out), whole[0])


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGTERM, 2)]
)
def test_a_signal_ends_a_run_in_time(lab, tmp_path, number, times):
    out = tmp_path / "run"
    driver = start(lab.command(out, "--address", lab.address, "--simulations", "400"))
    wait_for(lambda: has(out, "paths/*.parquet") or driver.poll() is not None)
    for _ in range(times):
        os.kill(driver.pid, number)
    output, errors = driver.communicate(timeout=20)
    assert driver.returncode == 128 + number, (output, errors)
    assert "the same command resumes" in errors
    assert not has(out, ".lease.json")


def test_sigterm_commits_and_reads_nothing_that_may_take_long(lab, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(CommittedRows, "table", lambda *_: pytest.fail("all shards are read"))
    with signal_when(signal.SIGTERM, lambda: has(out, "paths/*.parquet")), pytest.raises(Interrupted) as caught:
        lab.generate(out, simulations=400)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert not has(out, ".lease.json")


def test_a_run_whose_folder_is_taken_over_says_so_and_writes_nothing_more(lab, tmp_path):
    out = tmp_path / "run"
    driver = start(lab.command(out, "--address", lab.address, "--simulations", "400"))
    wait_for(lambda: has(out, "paths/*.parquet") or driver.poll() is not None)
    another = json.dumps({"token": "t", "host": "elsewhere", "boot_id": "b", "pid": 1, "start_s": 1.0})
    (out / ".lease.json").write_text(another)
    _, errors = driver.communicate(timeout=40)
    assert driver.returncode == 1, errors
    assert "was taken over by process 1 on elsewhere" in errors.splitlines()[-1]
    assert (out / ".lease.json").read_text() == another
    assert not json.loads((out / "run.json").read_text())["finished"]


def test_sigterm_while_ray_starts(lab, tmp_path):
    driver = start(lab.command(tmp_path / "run"))
    root = psutil.Process(driver.pid)

    def ray_begins() -> bool:
        return any("gcs_server" in " ".join(process.cmdline()[:1]) for process in root.children(recursive=True))

    wait_for(ray_begins)
    family = root.children(recursive=True)
    _end_with_sigterm(driver, tmp_path / "run")
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_sigterm_while_the_model_loads(lab, tmp_path):
    driver = start(lab.command(tmp_path / "run", "--address", lab.address))
    wait_for(lambda: lab.actors() or driver.poll() is not None)
    _end_with_sigterm(driver, tmp_path / "run")
    wait_for(lambda: not lab.actors(), limit_s=30)


def _end_with_sigterm(driver: subprocess.Popen, out) -> None:
    driver.terminate()
    output, errors = driver.communicate(timeout=20)
    assert driver.returncode == 128 + signal.SIGTERM, (output, errors)
    assert not has(out, ".lease.json")


def test_a_lost_head_ends_the_run_and_the_same_command_goes_on_elsewhere(lab, whole, tmp_path):
    out = tmp_path / "run"
    with ray_in_a_process() as (address, process):
        gives_up_soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}  # Ray's own patience is a minute
        driver = start(lab.command(out, "--address", address), **gives_up_soon)
        wait_for(lambda: has(out, ".progress/*.parquet") or driver.poll() is not None)
        for part in process.children(recursive=True):
            if any(name in " ".join(part.cmdline()[:1]) for name in ("gcs_server", "raylet")):
                part.kill()
        _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 1, errors
    assert f"the head at {address} does not answer" in errors
    assert f"the same command resumes, there or on another cluster: pathgen generate --out {out} " in errors
    outcome = lab.generate(out)
    assert outcome.exit_code == 0
    assert not lab.said  # the dead driver's lease is no reason to wait
    assert_same(records(out), whole[0])


def test_a_second_driver_names_the_first_and_ends(lab, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with RunLease(*open_folder(str(out)), on_wait=print):
        second = start(lab.command(out))
        _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"process {os.getpid()} on" in errors.splitlines()[-1]
    assert not has(out, "paths/*.parquet")
