"""The cluster that a command uses, and its addresses."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..local.local_cluster import OWN_ADDRESS, LocalCluster
from ..program.errors import ClusterError, UsageError
from .session import connect, temporary_variable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of a cluster.

    Attributes:
        dashboard: http://HOST:PORT, for jobs and their logs.
        address: HOST:PORT or `auto`, for drivers; None if only the dashboard is known, as from another network.
        is_local: whether `cluster up` started it on this machine, so that its jobs see this machine's folders.
    """

    dashboard: str
    address: str | None
    is_local: bool

    def selected(self) -> AbstractContextManager[None]:
        """Within the block, Ray's clients use this dashboard: they prefer the environment to any argument."""
        return temporary_variable("RAY_API_SERVER_ADDRESS", self.dashboard)


def find_endpoint(given: str | None) -> Endpoint:
    """The cluster at the given address, else at `RAY_ADDRESS`, else the one that `cluster up` started.

    Args:
        given: http://HOST:PORT of a dashboard, HOST:PORT of a cluster that includes this machine, or `auto`.

    Raises:
        UsageError: no cluster is known, or an address of this kind serves no jobs.
        ClusterError: the cluster does not answer, or has no dashboard.
    """
    local = LocalCluster.read()
    named = os.environ.get(OWN_ADDRESS) or os.environ.get("RAY_ADDRESS") if given in (None, "", "auto") else given
    if not named and local:
        named = local.address
    if not named and given != "auto":
        raise UsageError(
            "no cluster is known: `cluster up` starts one here, or give --address http://HOST:8265 or HOST:PORT"
        )
    wanted = (named or "auto").rstrip("/")
    if local and wanted in (local.address, local.dashboard):
        local.enter()
        return Endpoint(local.dashboard, local.address, is_local=True)
    if wanted.startswith(("http://", "https://")):
        return Endpoint(wanted, None, is_local=False)
    if "://" in wanted:
        raise UsageError(f"{wanted} serves no jobs; give the dashboard's http://HOST:8265, or HOST:PORT of the cluster")
    with connect(wanted) as session:
        if session.dashboard is None:
            raise ClusterError(f"the cluster at {wanted} runs without its dashboard, which serves jobs")
        return Endpoint(session.dashboard, wanted, is_local=False)
