"""Which cluster a command means."""

from __future__ import annotations

import psutil
import pytest

import cluster.connection.endpoint
from cluster.connection.endpoint import Endpoint, find_endpoint
from cluster.connection.session import Session
from cluster.local.local_cluster import LOOPBACK_SWITCH, OWN_ADDRESS, LocalCluster
from cluster.program.errors import ClusterError, UsageError

GCS, DASHBOARD = "127.0.0.1:6001", "http://127.0.0.1:6002"
ELSEWHERE = "http://ray.example:8265"


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", LOOPBACK_SWITCH):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def local():
    """A record whose process lives: this one."""
    this = psutil.Process()
    LocalCluster(GCS, DASHBOARD, 1, 1, True, None, [(this.pid, this.create_time())]).write()


@pytest.fixture
def joined(monkeypatch):
    """Sessions that would be made, and the dashboard they find."""
    found = {"addresses": [], "dashboard": "http://10.0.0.1:8265"}

    class FakeConnection:
        def __init__(self, address):
            found["addresses"].append(address)

        def __enter__(self):
            return Session(found["addresses"][-1], found["dashboard"])

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(cluster.connection.endpoint, "connect", FakeConnection)
    return found


LOCAL = Endpoint(DASHBOARD, GCS, is_local=True)


@pytest.mark.parametrize("given", [None, "auto", GCS, DASHBOARD, f"{DASHBOARD}/"])
def test_the_local_cluster_is_found(local, given):
    assert find_endpoint(given) == LOCAL


def test_the_environment_goes_before_the_record_and_the_argument_before_both(local, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ELSEWHERE)
    assert find_endpoint(None) == Endpoint(ELSEWHERE, None, is_local=False)
    assert find_endpoint("auto") == Endpoint(ELSEWHERE, None, is_local=False)
    assert find_endpoint(GCS) == LOCAL


def test_in_a_job_of_the_local_cluster_ray_s_guess_of_an_address_counts_for_nothing(local, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv(OWN_ADDRESS, GCS)
    assert find_endpoint(None) == LOCAL


def test_a_clusters_dashboard_is_asked_of_the_cluster(joined):
    assert find_endpoint("10.0.0.1:6379") == Endpoint("http://10.0.0.1:8265", "10.0.0.1:6379", is_local=False)
    assert joined["addresses"] == ["10.0.0.1:6379"]


def test_a_cluster_without_dashboard_serves_no_jobs(joined):
    joined["dashboard"] = None
    with pytest.raises(ClusterError, match=r"10\.0\.0\.1:6379 runs without its dashboard"):
        find_endpoint("10.0.0.1:6379")


def test_without_any_cluster_the_way_to_one_is_told():
    with pytest.raises(UsageError, match="`cluster up` starts one here, or give --address http"):
        find_endpoint(None)


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_rays_clients_ask_the_cluster_that_was_named(monkeypatch, variable):
    from ray.dashboard.utils import get_address_for_submission_client

    monkeypatch.setenv(variable, ELSEWHERE)
    endpoint = find_endpoint(DASHBOARD)
    assert get_address_for_submission_client(endpoint.dashboard) == ELSEWHERE
    with endpoint.selected():
        assert get_address_for_submission_client(endpoint.dashboard) == DASHBOARD
    assert get_address_for_submission_client(endpoint.dashboard) == ELSEWHERE


def test_a_ray_client_address_is_refused():
    with pytest.raises(UsageError, match=r"ray://host:10001 serves no jobs; give the dashboard's http"):
        find_endpoint("ray://host:10001")
