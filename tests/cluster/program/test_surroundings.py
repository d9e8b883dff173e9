"""Proxies and long temporary folders: what is set, and what is refused with the remedy."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import requests

from cluster.connection.session import connect
from cluster.local.local_cluster import start_cluster
from cluster.program.errors import UsageError
from cluster.program.surroundings import bypass_proxies, check_socket_paths

LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, None),
        ({"no_proxy": "a.org"}, "a.org"),
        ({"http_proxy": "http://p:1"}, LOOPBACK),
        ({"HTTPS_PROXY": "http://p:1"}, LOOPBACK),
        ({"grpc_proxy": "http://p:1", "NO_PROXY": "a.org, 127.0.0.1"}, "a.org,127.0.0.1,localhost,::1"),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "*"),
    ],
)
def test_loopback_goes_around_a_proxy(given, found):
    environment = dict(given)
    for _ in range(2):
        bypass_proxies(environment)
        assert environment.get("no_proxy") == found
    if found not in (None, "a.org"):
        assert environment["NO_PROXY"] == found


def test_requests_to_a_dashboard_on_loopback_are_direct(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert requests.utils.get_environ_proxies("http://127.0.0.1:8265/api/version") != {}
    bypass_proxies()
    assert requests.utils.get_environ_proxies("http://127.0.0.1:8265/api/version") == {}
    assert requests.utils.get_environ_proxies("http://hub.example/") != {}


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_refused_with_the_remedy(monkeypatch, tmp_path, name):
    monkeypatch.setenv("LAYERPATHS_CACHE", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/scratch/" + "x" * 60)
    for start in (
        check_socket_paths,
        lambda: connect(None).__enter__(),
        lambda: start_cluster(nodes=1, cpus_per_node=1, port=0, dashboard_port=0),
    ):
        with pytest.raises(UsageError, match=rf"^{name}=/scratch/x+ is too long .* for example RAY_TMPDIR=/tmp$"):
            start()


def test_the_longest_folder_is_the_one_that_ray_can_use(monkeypatch):
    """Ray's own check, on the name that it gives its socket."""
    from ray._private.utils import validate_socket_filepath

    from cluster.program.surroundings import SOCKET

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("os.getpid", lambda: 1234567)
    for length, fits in ((20, True), (39, True), (40, False), (60, False)):
        folder = "/" + "x" * (length - 1)
        monkeypatch.setenv("TMPDIR", folder)
        socket = f"{folder}/{SOCKET.format(pid=1234567)}"
        with nullcontext() if fits else pytest.raises(UsageError, match="of at most 39 bytes"):
            check_socket_paths()
        with nullcontext() if fits else pytest.raises(OSError, match="AF_UNIX"):
            validate_socket_filepath(socket)


def test_a_short_ray_tmpdir_is_the_remedy(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch/" + "x" * 90)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_socket_paths()
