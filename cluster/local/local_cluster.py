"""The cluster that `cluster up` starts on this machine: start it, find it by its record, stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from ..program.errors import ClusterError
from ..program.folders import cache_folder
from ..program.json_codec import from_json, to_json
from ..program.processes import same_process
from ..program.surroundings import bypass_proxies, check_socket_paths
from .tokens import is_disabled, prepare_token, use_token

RECORD_NAME = "cluster.json"
LOG_NAME = "cluster.log"
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray binds to 127.0.0.1 alone if this is 0 when ray is first imported (its default on macOS and Windows)."""
OWN_ADDRESS = "LAYERPATHS_CLUSTER"
"""The cluster's address, set in each of its processes, jobs included. Ray also gives a job an address, but searches
all processes of the machine for it and may find another Ray."""
OBJECT_STORE_BYTES = 100 * 2**20

_NODE_ENVIRONMENT = {
    LOOPBACK_SWITCH: "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "60",  # Ray's default of 10 is too short on a busy machine
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # `down` ends jobs too, so there is nothing to wait for
}
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """The recorded cluster of this machine. The record contains the token's path, never the token.

    Attributes:
        address: HOST:PORT, for drivers.
        dashboard: http://HOST:PORT, for jobs.
        nodes: number of nodes started.
        authenticated: whether it requires a token.
        token_path: file of the token; None if there is none, or if the user's environment sets the token.
        processes: pid and start time (seconds since the epoch) of each process; the first is the parent of the others.
    """

    address: str
    dashboard: str
    nodes: int
    cpus_per_node: int
    authenticated: bool
    token_path: str | None
    processes: list[tuple[int, float]]

    @classmethod
    def read(cls) -> LocalCluster | None:
        """The recorded cluster; None without a record, or if all its processes are gone."""
        try:
            found = from_json(cls, _record_path().read_bytes())
        except (OSError, ValueError):
            return None
        return found if found.alive() else None

    def write(self) -> None:
        """Replace the stored record."""
        path = _record_path()
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_bytes(to_json(self))
        temporary.replace(path)

    def alive(self) -> list[psutil.Process]:
        """Its living processes, without pids that other processes have reused."""
        return [found for pid, start_s in self.processes if (found := same_process(pid, start_s))]

    def enter(self) -> None:
        """Let this process and its children connect: on loopback, and with the token unless the user has set one."""
        os.environ.setdefault(LOOPBACK_SWITCH, "0")
        if self.authenticated:
            use_token(os.environ, self.token_path)


def start_cluster(*, nodes: int, cpus_per_node: int, port: int, dashboard_port: int) -> LocalCluster:
    """Start nodes on loopback, the head included, with the Jobs API and token authentication; port 0 is a free one.

    Raises:
        ClusterError: a cluster runs already, or this one does not start (a port is taken, for example); the message
            names the log.
        UsageError: the temporary folder is too long for Ray's sockets.
    """
    check_socket_paths()
    bypass_proxies()
    with _one_at_a_time() as folder:
        if running := LocalCluster.read():
            raise ClusterError(f"a cluster runs already at {running.address}; `cluster down` ends it")
        _record_path().unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", OWN_ADDRESS)}
        environment |= _NODE_ENVIRONMENT
        if not is_disabled():
            use_token(environment, prepare_token(folder))
        sizes = [str(number) for number in (nodes, cpus_per_node, port, dashboard_port)]
        with (folder / LOG_NAME).open("w") as log:
            holder = subprocess.Popen(
                [sys.executable, "-m", "cluster.local.nodes", *sizes],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        try:
            return _await_record(holder, folder / LOG_NAME)
        except BaseException:
            _end([psutil.Process(holder.pid)] if holder.poll() is None else [])
            raise


def stop_cluster() -> LocalCluster:
    """End the processes of the recorded cluster and their children, and no others; remove the record.

    Raises:
        ClusterError: no cluster is recorded.
    """
    with _one_at_a_time():
        running = LocalCluster.read()
        if running is not None:
            _end(running.alive())
        _record_path().unlink(missing_ok=True)  # last, so that after a Ctrl-C the next `down` finds the rest
        if running is None:
            raise ClusterError("no cluster of `cluster up` runs here")
        return running


def _await_record(holder: subprocess.Popen, log: Path) -> LocalCluster:
    """Wait until the process that runs the nodes has written the record."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and holder.poll() is None:
        if found := LocalCluster.read():
            return found
        time.sleep(0.1)
    problem = f"was not ready within {_START_TIMEOUT_S:g} s" if holder.poll() is None else "did not start"
    last_line = (log.read_text().strip().splitlines() or ["no output"])[-1]
    raise ClusterError(f"the cluster {problem}: {last_line} (full log: {log})")


def _end(owned: list[psutil.Process]) -> None:
    """Send SIGTERM to processes and their children, and after 10 s SIGKILL to the remaining ones."""
    family = {*owned}
    for process in owned:
        with suppress(psutil.NoSuchProcess):
            family.update(process.children(recursive=True))
    left = list(family)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)  # psutil checks that the pid is still this process
        _, left = psutil.wait_procs(left, timeout=10.0)


def _record_path() -> Path:
    return cache_folder() / RECORD_NAME


@contextmanager
def _one_at_a_time() -> Iterator[Path]:
    """Allow one `up` or `down` at a time; yield the folder of the record."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{RECORD_NAME}.lock"):
        yield folder
