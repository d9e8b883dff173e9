"""The process that runs a local cluster: `python -m cluster.local.nodes NODES CPUS PORT DASHBOARD_PORT`.

The nodes are its children and end with it. Ray's own `ray start` refuses a second node on loopback.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import psutil

from .local_cluster import OBJECT_STORE_BYTES, OWN_ADDRESS, LocalCluster
from .tokens import TOKEN_PATH, is_disabled

_AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
"""Ports of a node's helper processes. If the helpers chose them, a node would wait only 15 s to learn them: too short
on a busy machine."""


def hold(nodes: int, cpus_per_node: int, port: int, dashboard_port: int) -> None:
    """Start the nodes, write the record, and wait for SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    starter = os.getppid()
    port = port or _free_port()
    os.environ[OWN_ADDRESS] = address = f"127.0.0.1:{port}"  # the nodes' processes inherit it
    from ray.cluster_utils import Cluster

    def node() -> dict[str, Any]:
        ports = {name: _free_port() for name in _AGENT_PORTS}
        return {"num_cpus": cpus_per_node, "object_store_memory": OBJECT_STORE_BYTES, **ports}

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **node(),
            "gcs_server_port": port,
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": dashboard_port or _free_port(),
        },
    )
    for _ in range(nodes - 1):
        cluster.add_node(**node())
    if os.getppid() != starter:
        sys.exit("`cluster up` has ended")  # it was killed, and another one may be starting
    holder = psutil.Process()
    LocalCluster(
        address=address,
        dashboard=f"http://{cluster.webui_url}",
        nodes=nodes,
        cpus_per_node=cpus_per_node,
        authenticated=not is_disabled(),
        token_path=os.environ.get(TOKEN_PATH),
        processes=[(process.pid, process.create_time()) for process in (holder, *holder.children())],
    ).write()
    while True:
        signal.pause()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    hold(*(int(number) for number in sys.argv[1:]))
