"""Runs that are stopped, continued, starved or met by another: what is done stays, and is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest
from fault_lab import (
    LIMIT,
    assert_same,
    depth,
    has,
    records,
    signal_when,
    start,
    under_way,
    wait_for,
)

from cluster import ClusterError
from cluster.program.errors import Interrupted
from pathgen.store.committed import CommittedRows
from pathgen.store.files import open_folder
from pathgen.store.folder_lock import RunLease

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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


def test_a_second_driver_names_the_first_and_ends(lab, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with RunLease(*open_folder(str(out)), on_wait=print):
        second = start(lab.command(out))
        _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"process {os.getpid()} on" in errors.splitlines()[-1]
    assert not has(out, "paths/*.parquet")
