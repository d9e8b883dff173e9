"""A Ray cluster of several nodes on this machine whose nodes can be lost: its head has no CPUs, so work dies with them.

It lives in a process of its own (`python ray_nodes.py`), as Ray settles on authentication once per process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
"""Ray takes a node for dead after these; by default after some 15 s."""
STORE_BYTES = 80 * 2**20


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
    here = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": f"{Path(__file__).parent / 'pathgen'}:{ROOT}"}
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


def main() -> None:
    """Keep a cluster, and do what the lines of stdin say."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    nodes = {}
    print("=", cluster.address, flush=True)
    for line in sys.stdin:
        action, name, *more = line.split()
        if action == "add":
            nodes[name] = cluster.add_node(num_cpus=int(more[0]), **small)
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        print("= done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
