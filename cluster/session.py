"""Connections to Ray: an embedded one by default, or a cluster's, in bounded time and one line when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ClusterError
from .local import LOOPBACK_SWITCH, LocalCluster
from .member import cause_of

_OBJECT_STORE_BYTES = 100 * 2**20
_PROBE_S = 5.0
_TRIAL = """
import ray, sys
from cluster.member import cause_of
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except Exception as error:
    sys.exit(cause_of(error))
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A live connection to Ray.

    Attributes:
        address: the cluster's, or None for the embedded Ray.
        namespace: this run's own, so that named actors of two runs never meet.
        dashboard: http://HOST:PORT of the cluster's dashboard; None where it has none.
        job_id: Ray's id of this connection.
    """

    address: str | None
    namespace: str
    dashboard: str | None
    job_id: str

    def nodes(self) -> list[dict[str, float]]:
        """Total resources of each node alive now; `CPU` and `GPU` always stand in it."""
        import ray

        return [{"CPU": 0.0, "GPU": 0.0, **node["Resources"]} for node in ray.nodes() if node["Alive"]]

    def this_node(self) -> str:
        """Ray's id of the node that this process runs on."""
        import ray

        return ray.get_runtime_context().get_node_id()


@contextlib.contextmanager
def connect(address: str | None, *, num_cpus: int | None = None, timeout_s: float = 30.0) -> Iterator[Session]:
    """A Ray session for the body of a `with`. Stdout is turned to stderr meanwhile: Ray's notices belong there.

    The address is taken from the argument alone; `RAY_ADDRESS` stands for `auto`, and for nothing else. The token
    of a cluster that `cluster up` started is found; beside that Ray's token authentication stays as it is. A
    handler of SIGTERM that was set before stays in place (Ray would replace it).

    Args:
        address: None starts a Ray of its own on this machine (loopback only, no dashboard) and ends it
            afterwards; `auto` finds the cluster that runs on this machine, first that of `cluster up`; `HOST:PORT`
            is a cluster that this machine is a node of.
        num_cpus: CPUs that the embedded Ray offers, by default all.
        timeout_s: bound on finding out that a cluster does not answer.

    Raises:
        ClusterError: naming the address, if nothing answers there or Ray will not start.
    """
    namespace = f"run-{uuid.uuid4().hex[:12]}"
    if address is not None:
        address = _join_local(address)
        _check(address, timeout_s)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            dashboard = _init(address, num_cpus, namespace)
        except Exception as error:
            where = "on this machine" if address is None else f"at {address}"
            raise ClusterError(f"no Ray session {where}: {cause_of(error)}") from error
        import ray

        try:
            yield Session(address, namespace, dashboard, ray.get_runtime_context().get_job_id())
        finally:
            ray.shutdown()


def _join_local(address: str) -> str:
    """The address, after making the token known if it is that of the cluster that `cluster up` started here."""
    local = LocalCluster.read()
    if local is None or (address == "auto" and os.environ.get("RAY_ADDRESS", local.address) != local.address):
        return address
    if address in ("auto", local.address):
        local.enter()
        return local.address
    return address


def _init(address: str | None, num_cpus: int | None, namespace: str) -> str | None:
    """Calls `ray.init` so that a SIGTERM, then or later, reaches the caller's handler; the dashboard's URL."""
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        return _start(address, num_cpus, namespace)
    except SystemExit:
        # This is how Ray answers a SIGTERM while it starts, whatever handler was set.
        if callable(on_term):
            on_term(signal.SIGTERM, None)
        raise
    finally:
        if callable(on_term) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)


def _start(address: str | None, num_cpus: int | None, namespace: str) -> str | None:
    """Calls `ray.init`; the dashboard's URL."""
    if address is None:
        with _environment(LOOPBACK_SWITCH, "0"):
            import ray

            context = ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                namespace=namespace,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    else:
        import ray

        context = ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for the body of a `with`, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _check(address: str, timeout_s: float) -> None:
    """Finds out whether a cluster answers, without risk: `ray.init` on a dead address hangs or ends the process.

    First the port is tried, then a whole connection in a child process that can be killed.
    """
    deadline = time.monotonic() + timeout_s
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or "/" in host:
            raise ClusterError(f"a Ray address is HOST:PORT or auto; got {address}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=min(timeout_s, _PROBE_S)).close()
        except (OSError, OverflowError) as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, address],
            capture_output=True,
            text=True,
            timeout=max(0.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"no Ray cluster answers at {address} within {timeout_s:g} s") from error
    if trial.returncode != 0:
        last = (trial.stderr.splitlines() or [f"the trial ended with {trial.returncode}"])[-1]
        raise ClusterError(f"no Ray session at {address}: {last}")
