"""Connections to Ray: an embedded one by default, or a cluster's, in bounded time and one line when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from ..local.local_cluster import LOOPBACK_SWITCH
from ..program.causes import cause_of
from ..program.errors import ClusterError
from .head_watch import watching
from .probe import Probe, alive_nodes

_OBJECT_STORE_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True)
class Session:
    """A live connection to Ray.

    Attributes:
        address: the cluster's, or None for the embedded Ray.
        dashboard: http://HOST:PORT of the cluster's dashboard; None where it has none.
    """

    address: str | None
    dashboard: str | None

    def nodes(self) -> list[dict[str, float]]:
        """Total resources of each node alive now; `CPU` and `GPU` always stand in it."""
        return alive_nodes()

    def this_node(self) -> str:
        """Ray's id of the node that this process runs on."""
        import ray

        return ray.get_runtime_context().get_node_id()


@contextlib.contextmanager
def connect(target: str | Probe | None, *, num_cpus: int | None = None) -> Iterator[Session]:
    """A Ray session for the body of a `with`. Stdout is turned to stderr meanwhile: Ray's notices belong there.

    The address is taken from the argument alone; `RAY_ADDRESS` stands for `auto`, and for nothing else. The token
    of a cluster that `cluster up` started is found; beside that Ray's token authentication stays as it is. A
    handler of SIGTERM that was set before stays in place (Ray would replace it). A head that goes silent is told.

    Args:
        target: None starts a Ray of its own on this machine (loopback only, no dashboard) and ends it
            afterwards; `auto` finds the cluster that runs on this machine, first that of `cluster up`; `HOST:PORT`
            is a cluster that this machine is a node of; a Probe of one of these is one begun before.
        num_cpus: CPUs that the embedded Ray offers, by default all.

    Raises:
        ClusterError: naming the address, if nothing answers there or Ray will not start.
    """
    # Of its own, so that named actors of two runs never meet.
    namespace = f"run-{uuid.uuid4().hex[:12]}"
    address = None
    if target is not None:
        probe = Probe(target) if isinstance(target, str) else target
        probe.nodes()
        address = probe.address
    with contextlib.redirect_stdout(sys.stderr):
        try:
            dashboard = _init(address, num_cpus, namespace)
        except Exception as error:
            where = "on this machine" if address is None else f"at {address}"
            raise ClusterError(f"no Ray session {where}: {cause_of(error)}") from error
        import ray

        context = ray.get_runtime_context()
        try:
            with watching(context.gcs_address):
                yield Session(address, dashboard)
        finally:
            ray.shutdown()


def _init(address: str | None, num_cpus: int | None, namespace: str) -> str | None:
    """Calls `ray.init` so that a SIGTERM, then or later, reaches the caller's handler; the dashboard's URL.

    Where nobody handles it, it ends the process with 143: by `ray.init` it would be 15.
    """
    on_term = signal.getsignal(signal.SIGTERM)
    if on_term is signal.SIG_DFL:
        on_term = _exit_on
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


def _exit_on(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _start(address: str | None, num_cpus: int | None, namespace: str) -> str | None:
    """Calls `ray.init`; the dashboard's URL."""
    if address is None:
        with environment(LOOPBACK_SWITCH, os.environ.get(LOOPBACK_SWITCH, "0")):
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
def environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for the body of a `with`."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
