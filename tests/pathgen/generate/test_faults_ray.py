"""Runs that are killed or hung: each question ends up there once, with the same record."""

from __future__ import annotations

import json
import signal

import psutil
import pytest
from fault_lab import (
    assert_same,
    has,
    is_actor,
    meanwhile,
    ray_in_a_process,
    records,
    start,
    wait_for,
)

from pathgen.models.facts import fingerprint
from pathgen.questions.loading import load_questions
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_folder import RunDirectory
from pathgen.store.schema import from_table
from pathgen.store.writer import RecordWriter

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FIRST = load_questions("builtin", needs="choices", limit=1)[0].id


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
