"""The state of a cluster: nodes, resources, actors, jobs, and the progress of fleets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .connection.endpoint import Endpoint
from .connection.session import connect
from .fleet.status import StatusBoard, read_statuses
from .jobs.jobs import Jobs
from .program.errors import ClusterError
from .program.json_codec import encoded

_HIDDEN_ACTORS = (StatusBoard.__name__, "JobSupervisor")
"""Actors that do no work: status boards, and Ray's own actor of each job."""


def cluster_status(endpoint: Endpoint) -> dict[str, Any]:
    """The state of a cluster, as `cluster status --json` prints it.

    Resources in use are those of living actors. `fleets` is None if only the dashboard answers.

    Raises:
        ClusterError: the cluster does not answer.
    """
    client = Jobs(endpoint)
    jobs = client.list()
    from ray.util.state import list_actors, list_nodes

    limits: dict[str, Any] = {"limit": 10_000, "detail": True, "raise_on_missing_output": False}
    with client.one_line_errors(), endpoint.selected():
        nodes = list_nodes(endpoint.dashboard, **limits)
        actors = list_actors(endpoint.dashboard, filters=[("state", "=", "ALIVE")], **limits)
    node_states = Counter(node.state for node in nodes)
    total = _total(node.resources_total for node in nodes if node.state == "ALIVE")
    used = _total(actor.required_resources for actor in actors)
    classes = Counter(actor.class_name for actor in actors)
    return {
        "address": endpoint.address,
        "dashboard": endpoint.dashboard,
        "nodes": {"alive": node_states["ALIVE"], "dead": node_states["DEAD"]},
        "resources": {name: {"used": used[name], "total": total[name]} for name in ("CPU", "GPU")},
        "actors": {name: count for name, count in sorted(classes.items()) if name not in _HIDDEN_ACTORS},
        "jobs": dict(sorted(Counter(job.status for job in jobs).items())),
        "running": [
            {"submission_id": job.submission_id, "entrypoint": job.entrypoint} for job in jobs if not job.is_over
        ],
        "fleets": _fleets(endpoint, classes[StatusBoard.__name__]),
    }


def status_text(found: Mapping[str, Any]) -> str:
    """The state of a cluster as text for a terminal."""
    nodes, resources = found["nodes"], found["resources"]
    lines = [
        f"cluster    {found['address'] or found['dashboard']}",
        f"nodes      {nodes['alive']} alive, {nodes['dead']} dead",
        "in use     " + ", ".join(f"{each['used']:g} of {each['total']:g} {name}s" for name, each in resources.items()),
        "actors     " + (", ".join(f"{count} {name}" for name, count in found["actors"].items()) or "none"),
        "jobs       " + (", ".join(f"{count} {status}" for status, count in found["jobs"].items()) or "none"),
        *(f"           {job['submission_id']}: {job['entrypoint']}" for job in found["running"]),
    ]
    if found["fleets"] is None:
        lines.append("fleets     unknown: only the dashboard answers here")
    for fleet in found["fleets"] or []:
        eta = "" if fleet["eta_s"] is None else f", {fleet['eta_s'] / 60:.1f} min left"
        lines.append(
            f"fleet      {fleet['what']}: {fleet['done']} of {fleet['total']}, {fleet['failed']} failed, "
            f"{fleet['rate']:.3g}/s{eta}"
        )
    return "\n".join(lines)


def _fleets(endpoint: Endpoint, boards: int) -> list[dict[str, Any]] | None:
    if endpoint.address is None:
        return None
    if not boards:
        return []
    try:
        with connect(endpoint.address):
            return encoded(read_statuses())
    except ClusterError:  # the dashboard has answered, so the rest is known
        return None


def _total(resources: Iterable[Mapping[str, float] | None]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in resources:
        total.update(each or {})
    return total
