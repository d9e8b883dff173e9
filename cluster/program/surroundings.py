"""What a machine's environment does to a cluster on loopback: proxies, and the folder of Ray's sockets."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from itertools import product

from .errors import UsageError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SOCKET = "ray/session_2000-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The longest path that Ray makes below its temporary folder, by its version 2."""
MAC_OS = "darwin"


def bypass_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let requests to loopback go around a proxy, in this process and its children; nothing without a proxy."""
    if not any(environment.get(way(name)) for name, way in product(PROXIES, (str.lower, str.upper))):
        return
    for name in ("no_proxy", "NO_PROXY"):
        given = environment.get(name) or environment.get(name.swapcase()) or ""
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        missing = [] if "*" in hosts else [host for host in LOOPBACK if host not in hosts]
        environment[name] = ",".join([*hosts, *missing])


def check_socket_paths() -> None:
    """Check that Ray can make its sockets below its temporary folder.

    Raises:
        UsageError: their paths would be longer than the system allows.
    """
    longest = (104 if sys.platform == MAC_OS else 108) - 1
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name)
    if folder is None or (name == "TMPDIR" and sys.platform == MAC_OS):
        return  # Ray takes /tmp
    length = len(os.path.join(folder, SOCKET.format(pid=os.getpid())).encode())
    if length > longest:
        raise UsageError(
            f"{name}={folder} is too long a folder for Ray: its sockets would have paths of {length} bytes, {longest} "
            f"are possible; set RAY_TMPDIR to a folder of at most {longest - length + len(folder.encode())} bytes, for "
            "example RAY_TMPDIR=/tmp"
        )
