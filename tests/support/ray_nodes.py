"""A Ray cluster of several nodes on this machine whose nodes can be lost: its head has no CPUs, so work dies with them.

It lives in a process of its own (`python ray_nodes.py`), as Ray settles on authentication once per process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
"""Ray takes a node for dead after these; by default after some 15 s."""
STORE_BYTES = 80 * 2**20
TRIES = 3


class RayNodes:
    """The cluster, from another process.

    Attributes:
        address: of the cluster.
        process: whose descendants are all of Ray's processes.
    """

    def __init__(self, process: subprocess.Popen[str]):
        self._pipe = process
        self._names = map(str, itertools.count(1))
        self.address = self._answer()
        self.process = psutil.Process(process.pid)

    def add(self, num_cpus: int) -> str:
        """A node joins; its name."""
        name = next(self._names)
        self._ask(f"add {name} {num_cpus}")
        return name

    def lose(self, name: str) -> None:
        """All processes of a node are killed at once."""
        self._ask(f"lose {name}")

    def settle(self) -> None:
        """Waits until the cluster knows which nodes are left: on one that it takes for alive it would place actors."""
        self._ask("settle all")

    def _ask(self, line: str) -> None:
        print(line, file=self._pipe.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        for line in self._pipe.stdout:
            if line.startswith("= "):
                return line.removeprefix("= ").strip()
        raise RuntimeError("the cluster's process has ended")


@contextlib.contextmanager
def ray_nodes(**environment: str) -> Iterator[RayNodes]:
    """A cluster of a head without CPUs and no other node yet. All its processes get the environment."""
    here = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="rn"),  # its own: `auto` of other processes must not find this cluster
        "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}",
    }
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | QUICK_TO_NOTICE | here | environment,
    )
    try:
        yield RayNodes(process)
    finally:
        process.stdin.close()
        process.wait(60)
        shutil.rmtree(here["RAY_TMPDIR"], ignore_errors=True)


def patiently(start: Callable[[], Any]) -> Any:
    """What it starts; Ray gives a node 30 s, which may be too little on a busy machine."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Exception):
            return start()
    return start()


def main() -> None:
    """Keep a cluster, and do what the lines of stdin say."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": STORE_BYTES}
    head = {"num_cpus": 0, "include_dashboard": False, **small}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = {}
    print("=", cluster.address, flush=True)
    for line in sys.stdin:
        action, name, *more = line.split()
        if action == "add":
            nodes[name] = patiently(partial(cluster.add_node, num_cpus=int(more[0]), **small))
        elif action == "settle":
            cluster.wait_for_nodes()
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        print("= done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
