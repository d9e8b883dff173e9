from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

import pytest

from cluster import ClusterError
from cluster.connection.probe import Probe
from cluster.connection.session import connect
from cluster.local.local_cluster import OWN_ADDRESS
from cluster.program.errors import UsageError


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_nothing_listens_is_named():
    with listener() as address:
        pass
    with pytest.raises(ClusterError, match=address), connect(address):
        pass


@pytest.mark.timeout(60)
def test_a_port_that_accepts_and_stays_silent_is_given_up_in_time():
    """`ray.init` alone would try for minutes."""
    with (
        listener() as address,
        pytest.raises(ClusterError, match=f"{address} within 3 s"),
        connect(Probe(address, timeout_s=3)),
    ):
        pass


@pytest.mark.ray
def test_a_cluster_that_answered_is_there_however_late_one_asks(local_ray):
    probe = Probe(local_ray, timeout_s=0)
    probe._child.wait()
    [node] = probe.nodes()
    assert node["CPU"] == 2


@pytest.mark.ray
@pytest.mark.timeout(60)
def test_a_job_finds_its_own_cluster_where_ray_names_another(local_ray, monkeypatch):
    """Ray's guess among several on a machine, put into each job's environment; this one accepts and stays silent."""
    with listener() as another:
        monkeypatch.setenv("RAY_ADDRESS", another)
        monkeypatch.setenv(OWN_ADDRESS, local_ray)
        probe = Probe("auto")
        assert probe.address == local_ray
        assert len(probe.nodes()) == 1


@pytest.mark.parametrize("address", ["localhost", "ray://localhost:10001", ":6379", "host:port"])
def test_a_malformed_address_is_refused(address):
    with pytest.raises(UsageError, match="HOST:PORT"), connect(address):
        pass


EMBEDDED = """
import json, os, signal, sys
os.environ["RAY_ADDRESS"] = "192.0.2.1:6379"
from cluster.connection.session import connect
def on_term(*_): pass
signal.signal(signal.SIGTERM, on_term)
with connect(None, num_cpus=2) as session:
    import ray
    print("chatter")
    facts = {
        "nodes": len(session.nodes()),
        "cpus": session.nodes()[0]["CPU"],
        "gpus": session.nodes()[0]["GPU"],
        "hosts": [node["NodeManagerAddress"] for node in ray.nodes()],
        "handler": signal.getsignal(signal.SIGTERM) is on_term,
        "switch": os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"),
    }
print(json.dumps({**facts, "ended": not ray.is_initialized()}))
"""


@pytest.mark.ray
def test_the_embedded_ray_is_local_quiet_and_ends():
    """In a process of its own, as a user has it: nothing has imported ray before."""
    result = run_script(EMBEDDED)
    facts = json.loads(result.stdout)
    assert facts.pop("gpus") >= 0
    assert facts == {
        "nodes": 1,
        "cpus": 2,
        "hosts": ["127.0.0.1"],
        "handler": True,
        "switch": None,
        "ended": True,
    }


@pytest.mark.ray
def test_a_sigterm_that_nobody_handles_is_143():
    script = (
        "import os, signal, time; from cluster.connection.session import connect\n"
        "with connect(None, num_cpus=1):\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    )
    assert run_script(script).returncode == 143


JOIN = """
import sys
from cluster.connection.session import connect
with connect(sys.argv[1]) as session:
    import ray
    print(len(session.nodes()), int(session.nodes()[0]["CPU"]), file=sys.__stdout__)
"""


@pytest.mark.ray
def test_a_running_cluster_is_joined_by_its_address(local_ray):
    assert run_script(JOIN, local_ray).stdout.split() == ["1", "2"]


@pytest.mark.slow
@pytest.mark.ray
def test_a_wrong_token_is_said_in_one_line(local_ray, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ClusterError, match=f"{local_ray}: .*token") as caught, connect(local_ray):
        pass
    assert len(str(caught.value).splitlines()) == 1
