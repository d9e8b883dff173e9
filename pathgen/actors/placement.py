"""Where actors run: how many, on what device, with how many threads, bounded by cores and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from fsspec import AbstractFileSystem

from cluster.connection.session import Session

from ..errors import InputError
from ..models.facts import float32_bytes
from ..models.resolving import absolute_name
from ..store.files import is_local
from .model_spec import ModelSpec
from .options import ActorOptions

CORES_PER_ACTOR = 4
ACTOR_OVERHEAD_BYTES = 3 << 30
"""Memory of an actor besides its weights: kept states, activations, Python."""
IN_FLIGHT = {"cpu": 4, "cuda": 16}
"""Items that an actor works on at a time, by device; the CPU's was measured (docs/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a run's actors are placed.

    Attributes:
        num_actors: actors at a time, on the nodes that were there at the start.
        threads: torch threads of each actor.
        devices_per_actor: devices that one model is spread over.
        in_flight: items that each works on at a time.
        resources: what each requests from Ray.
        memory_bytes: what each needs on the CPU; 0 on CUDA, where host memory is not counted.
    """

    num_actors: int
    threads: int
    device: str
    devices_per_actor: int
    in_flight: int
    resources: Mapping[str, float]
    memory_bytes: int = 0

    def fitting(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many actors these nodes have room for."""
        count = 0
        for node in nodes:
            room = min(math.floor(node.get(name, 0) / each) for name, each in self.resources.items())
            count += min(room, _on_node(node, self.memory_bytes)) if self.memory_bytes else room
        return count

    def fleet_size(self, options: ActorOptions, session: Session, node: str | None) -> int | Callable[[], int]:
        """Actors at a time: fixed, or a function that counts the room on the cluster's present nodes.

        It is fixed if `--actors` is given, Ray is embedded, or all actors are bound to the node of id `node`.
        """
        if options.actors is not None or session.address is None or node is not None:
            return self.num_actors
        return lambda: self.fitting(session.nodes())

    def model_spec(self, model: str, fingerprint: str, dtype: str, *, bridged: bool) -> ModelSpec:
        """The model as each actor loads it; an absolute name, because actors may start in another folder."""
        name = absolute_name(model)
        return ModelSpec(name, fingerprint, dtype, self.device, self.devices_per_actor, self.threads, bridged)

    def actor_factory(self, worker: type, settings: Any, *, node: str | None = None) -> Callable[[str], Any]:
        """A function that makes a Ray actor `worker(settings, writer)` for a writer id, on one node or on any."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor: Any = ray.remote(worker).options(
            num_cpus=self.resources["CPU"],
            num_gpus=self.resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False) if node else None,
        )
        return lambda writer: actor.remote(settings, writer)


def check_disks(out: str, fs: AbstractFileSystem, nodes: int, *, shared_fs: bool) -> None:
    """Check that a cluster of `nodes` nodes can share the folder that the message names `out`.

    Raises:
        InputError: the folder is local, and there are several nodes.
    """
    if is_local(fs) and nodes > 1 and not shared_fs:
        raise InputError(
            f"{out} is a local folder and the cluster has {nodes} nodes, each of which would write its own disk; "
            "give an object store's URL, or --shared-fs if all nodes see this folder"
        )


def only_node(fs: AbstractFileSystem, session: Session, *, shared_fs: bool) -> str | None:
    """Ray's id of the only node for actors, if the folder is on this machine alone; nodes may join later."""
    anywhere = shared_fs or not is_local(fs) or session.address is None
    return None if anywhere else session.this_node()


def place_actors(options: ActorOptions, device: str, session: Session, folder: Path, num_jobs: int) -> Placement:
    """Decide on actors for `num_jobs` items.

    `options.actors` None means one per GPU, or one per CORES_PER_ACTOR cores of a node, at least one, within the
    node's memory. On a cluster actors may wait for nodes that join later. `folder` is the model's.

    Raises:
        InputError: the embedded Ray has less than is requested.
    """
    nodes = session.nodes()
    kind = "cuda" if device.startswith("cuda") else "cpu"
    if kind == "cuda":
        memory_bytes, devices = 0, max(1, round(options.gpus_per_actor))
        threads = options.threads_per_actor or 1
        resources = {"CPU": 1.0, "GPU": options.gpus_per_actor}
        actors = options.actors or sum(math.floor(node["GPU"] / options.gpus_per_actor) for node in nodes)
    else:
        memory_bytes, devices = float32_bytes(folder) + ACTOR_OVERHEAD_BYTES, 1
        actors = options.actors or sum(_on_node(node, memory_bytes) for node in nodes)
        share = _cpu_share(nodes, min(max(1, actors), num_jobs))
        threads = options.threads_per_actor or share
        if options.threads_per_actor and session.address is not None:
            share = max((int(node["CPU"]) for node in nodes), default=0) or threads
        resources = {"CPU": float(min(threads, share))}
    num_actors = min(max(1, actors), num_jobs)
    for name, each in resources.items():
        asked, offered = each * num_actors, sum(node.get(name, 0) for node in nodes)
        if asked > offered and session.address is None:
            flag = "--gpus-per-actor" if name == "GPU" else "--threads-per-actor"
            raise InputError(
                f"{asked:g} {name}s are asked for, {each:g} an actor on {kind}, and there are {offered:g}; "
                f"ask for fewer by --actors or {flag}"
            )
    in_flight = options.in_flight or IN_FLIGHT[kind]
    # The device is without a number: an actor sees only the GPUs that Ray gives it.
    return Placement(num_actors, threads, kind, devices, in_flight, resources, memory_bytes)


def _on_node(node: Mapping[str, float], memory_bytes: int) -> int:
    """How many actors a node's cores and memory allow; at least one if it has a core."""
    memory = int(node.get("memory") or psutil.virtual_memory().available)
    return max(min(1, int(node["CPU"])), min(int(node["CPU"]) // CORES_PER_ACTOR, memory // memory_bytes))


def _cpu_share(nodes: Sequence[Mapping[str, float]], actors: int) -> int:
    """The most cores per actor with room for all of them on the nodes; CORES_PER_ACTOR without nodes."""
    largest = max((int(node["CPU"]) for node in nodes), default=0)
    shares = range(largest, 0, -1)
    fitting = (share for share in shares if sum(int(node["CPU"]) // share for node in nodes) >= actors)
    return next(fitting, 1 if largest else CORES_PER_ACTOR)
