"""A connection to Ray, embedded or on a cluster. Failure takes bounded time and is one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from ..local.local_cluster import LOOPBACK_SWITCH, OBJECT_STORE_BYTES
from ..program.causes import cause_of
from ..program.errors import ClusterError
from ..program.surroundings import bypass_proxies, check_socket_paths
from .lost_head import warning_of_lost_head
from .probe import Probe, alive_nodes


@dataclass(frozen=True, slots=True)
class Session:
    """A live connection to Ray.

    Attributes:
        address: HOST:PORT of the cluster; None for the embedded Ray.
        dashboard: http://HOST:PORT of the cluster's dashboard; None if it has none.
    """

    address: str | None
    dashboard: str | None

    def nodes(self) -> list[dict[str, float]]:
        """Total resources of each living node; `CPU` and `GPU` are always present."""
        return alive_nodes()

    def this_node(self) -> str:
        """Ray's id of the node that this process runs on."""
        import ray

        return ray.get_runtime_context().get_node_id()


@contextmanager
def connect(target: str | Probe | None, *, num_cpus: int | None = None) -> Iterator[Session]:
    """A Ray session within a `with` block. Stdout is redirected to stderr meanwhile, because Ray prints notices.

    `RAY_ADDRESS` replaces `auto` only. The token of a cluster that `cluster up` started is found; otherwise Ray's
    token authentication applies unchanged. The caller's SIGTERM handler stays in place.

    Args:
        target: None starts an embedded Ray on this machine (loopback only, no dashboard) and ends it afterwards;
            `auto` finds the cluster on this machine, that of `cluster up` first; HOST:PORT is a cluster that
            includes this machine; a Probe is a connection to one of these, already started.
        num_cpus: CPUs of the embedded Ray; all by default.

    Raises:
        ClusterError: nothing answers at the address, which the message names, or Ray does not start.
        UsageError: the temporary folder is too long for Ray's sockets.
    """
    address = None
    bypass_proxies()
    if target is None:
        check_socket_paths()
    else:
        probe = Probe(target) if isinstance(target, str) else target
        probe.nodes()
        address = probe.address
    with redirect_stdout(sys.stderr):
        try:
            dashboard = _init(address, num_cpus)
        except Exception as error:
            where = "on this machine" if address is None else f"at {address}"
            raise ClusterError(f"no Ray session {where}: {cause_of(error)}") from error
        import ray

        try:
            with warning_of_lost_head(ray.get_runtime_context().gcs_address):
                yield Session(address, dashboard)
        finally:
            ray.shutdown()


def _init(address: str | None, num_cpus: int | None) -> str | None:
    """Start Ray and keep the caller's SIGTERM handler, during the call and after it; return the dashboard's URL.

    Without a handler, SIGTERM ends the process with 143; after a plain `ray.init` it would be 15.
    """
    on_term = signal.getsignal(signal.SIGTERM)
    if on_term is signal.SIG_DFL:
        on_term = _exit_on
    try:
        return _start(address, num_cpus)
    except SystemExit:
        # While Ray starts, it exits like this on SIGTERM, even if the caller has set a handler.
        if callable(on_term):
            on_term(signal.SIGTERM, None)
        raise
    finally:
        if callable(on_term) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)


def _exit_on(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _start(address: str | None, num_cpus: int | None) -> str | None:
    embedded: dict[str, Any] = {}
    loopback: AbstractContextManager[None] = nullcontext()
    if address is None:
        embedded = {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        loopback = temporary_variable(LOOPBACK_SWITCH, os.environ.get(LOOPBACK_SWITCH, "0"))
    with loopback:
        import ray

        context = ray.init(
            address=address or "local",
            namespace=f"run-{uuid.uuid4().hex[:12]}",  # keeps the named actors of two runs apart
            log_to_driver=False,
            logging_level=logging.ERROR,
            **embedded,
        )
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


@contextmanager
def temporary_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within a `with` block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
