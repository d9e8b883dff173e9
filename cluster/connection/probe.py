"""Tests in a child process whether a Ray cluster answers: `ray.init` on a dead address hangs or ends its process."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
import weakref

from ..local.local_cluster import OWN_ADDRESS, LocalCluster
from ..program.causes import cause_of
from ..program.errors import ClusterError, UsageError
from ..program.surroundings import bypass_proxies


class Probe:
    """A trial connection in a child process. It starts at once, so that a driver can work meanwhile.

    It also sets the token of a cluster that `cluster up` started in this process's environment.

    Args:
        address: `auto` or HOST:PORT, as for `session.connect`; `auto` becomes the address of the local cluster, if
            there is one.
        timeout_s: after this time a silent cluster counts as not answering.

    Raises:
        UsageError: the address is malformed.
    """

    def __init__(self, address: str, timeout_s: float = 60.0):
        bypass_proxies()
        self.address = _join_local(address)
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._nodes: list[dict[str, float]] | None = None
        host, _, port = self.address.rpartition(":")
        if self.address != "auto" and (not host or not port.isdigit() or "/" in host):
            raise UsageError(f"a Ray address is HOST:PORT or auto; got {self.address}")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "cluster.connection.probe", self.address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A probe that is never read leaves no child behind.
        weakref.finalize(self, _end, self._child)

    def nodes(self) -> list[dict[str, float]]:
        """Total resources of each living node, as `Session.nodes`; waits for the child.

        Raises:
            ClusterError: nothing answers at the address; the message names it.
        """
        if self._nodes is None:
            left_s = max(1.0, self._deadline - time.monotonic())  # a late caller finds a child that has long ended
            try:
                answer, errors = self._child.communicate(timeout=left_s)
            except subprocess.TimeoutExpired:
                raise ClusterError(f"no Ray cluster answers at {self.address} within {self._timeout_s:g} s") from None
            if self._child.returncode:
                last = (errors.splitlines() or [f"the trial ended with {self._child.returncode}"])[-1]
                raise ClusterError(f"no Ray cluster answers at {self.address}: {last}")
            self._nodes = json.loads(answer)
        return self._nodes


def listens(address: str, timeout_s: float = 5.0) -> None:
    """Raise OSError if nothing listens at HOST:PORT, and OverflowError if the port is out of range."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def _join_local(address: str) -> str:
    """Resolve `auto` to the local cluster of `cluster up`, and set that cluster's token in the environment."""
    if address == "auto":
        address = os.environ.get(OWN_ADDRESS, address)
    local = LocalCluster.read()
    if local is None or (address == "auto" and os.environ.get("RAY_ADDRESS", local.address) != local.address):
        return address
    if address in ("auto", local.address):
        local.enter()
        return local.address
    return address


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def alive_nodes() -> list[dict[str, float]]:
    """Total resources of each living node; `CPU` and `GPU` are always present."""
    import ray

    return [{"CPU": 0.0, "GPU": 0.0, **node["Resources"]} for node in ray.nodes() if node["Alive"]]


def main(address: str) -> None:
    """The child process: connect and print the nodes as JSON, or exit with the cause."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # Ray's own output goes to stderr
    try:
        if address != "auto":
            listens(address)
        import ray

        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        os.write(stdout, json.dumps(alive_nodes()).encode())
    except Exception as error:
        sys.exit(cause_of(error))


if __name__ == "__main__":
    main(sys.argv[1])
