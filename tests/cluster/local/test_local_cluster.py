"""The record of a local cluster, its token, and that only recorded processes are ever ended."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import psutil
import pytest

import cluster.local.local_cluster
from cluster import ClusterError
from cluster.local.local_cluster import LocalCluster, start_cluster, stop_cluster
from cluster.local.tokens import prepare_token


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path))
    for name in (
        "RAY_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        cluster.local.local_cluster.LOOPBACK_SWITCH,
    ):
        # Set before it is deleted, so that what the code under test sets is undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def family():
    """A process with a child, both asleep."""
    script = "import subprocess, sys; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    yield psutil.Process(parent.pid), child
    for process in (parent, child):
        if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
            process.kill()
    parent.wait()
    parent.stdout.close()


def recorded(*processes: psutil.Process, start_shift_s: float = 0.0) -> LocalCluster:
    found = LocalCluster(
        address="127.0.0.1:1",
        dashboard="http://127.0.0.1:2",
        nodes=1,
        cpus_per_node=1,
        authenticated=True,
        token_path="/somewhere/token",
        processes=[(process.pid, process.create_time() + start_shift_s) for process in processes],
    )
    found.write()
    return found


def test_a_record_is_read_as_it_was_written_and_is_for_its_owner_alone(cache, family):
    written = recorded(*family)
    assert LocalCluster.read() == written
    assert stat.S_IMODE((cache / "cluster.json").stat().st_mode) == 0o600


def test_there_is_no_cluster_without_a_record_or_with_one_that_cannot_be_read(cache):
    assert LocalCluster.read() is None
    (cache / "cluster.json").write_text('{"address": "127.0.0.1:1"')
    assert LocalCluster.read() is None


def test_a_reused_pid_is_neither_taken_for_the_cluster_nor_ended(cache, family):
    recorded(*family, start_shift_s=-60.0)
    assert LocalCluster.read() is None
    with pytest.raises(ClusterError, match="no cluster"):
        stop_cluster()
    assert all(process.is_running() for process in family)


def test_down_ends_recorded_processes_with_their_children_and_no_others(cache, family):
    parent, child = family
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        recorded(parent)
        stop_cluster()
        assert LocalCluster.read() is None
        assert not (cache / "cluster.json").exists()
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert not parent.is_running() or parent.status() == psutil.STATUS_ZOMBIE
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_up_refuses_beside_a_living_one(cache, family):
    recorded(*family)
    with pytest.raises(ClusterError, match=r"runs already at 127\.0\.0\.1:1; `cluster down`"):
        start_cluster(nodes=1, cpus_per_node=1, port=0, dashboard_port=0)


def test_a_start_that_fails_is_told_with_its_last_words_and_leaves_no_record(cache, family, monkeypatch):
    recorded(*family, start_shift_s=-60.0)  # stale: it must not be in the way
    program = cache / "python"
    program.write_text("#!/bin/sh\necho first\necho the port is taken\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(cluster.local.local_cluster.sys, "executable", str(program))
    with pytest.raises(ClusterError, match=r"did not start: the port is taken \(full log: .*cluster\.log\)"):
        start_cluster(nodes=1, cpus_per_node=1, port=0, dashboard_port=0)
    assert not (cache / "cluster.json").exists()


def test_a_new_token_is_for_its_owner_alone_and_stays(cache):
    path = prepare_token(cache)
    assert path == str(cache / "ray_token")
    token = (cache / "ray_token").read_text()
    assert len(token) == 64
    assert stat.S_IMODE((cache / "ray_token").stat().st_mode) == 0o600
    assert prepare_token(cache) == path
    assert (cache / "ray_token").read_text() == token


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [("RAY_AUTH_TOKEN", "0" * 64, None), ("RAY_AUTH_MODE", "disabled", None), ("RAY_AUTH_TOKEN_PATH", "mine", "mine")],
)
def test_the_users_own_token_is_used(cache, monkeypatch, name, value, made):
    monkeypatch.chdir(cache)
    monkeypatch.setenv(name, value)
    assert prepare_token(cache) == (str(cache / made) if made else None)
    assert not (cache / "ray_token").exists()


def test_entering_a_cluster_shows_its_token_and_leaves_what_the_user_has_set(cache, family, monkeypatch):
    recorded(*family).enter()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/somewhere/token"
    assert os.environ[cluster.local.local_cluster.LOOPBACK_SWITCH] == "0"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    recorded(*family).enter()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/mine"
