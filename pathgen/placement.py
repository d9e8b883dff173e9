"""Where actors run: how many, on what device, with how many threads, bounded by cores and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from .checkpoints import weight_bytes
from .errors import InputError

CORES_PER_ACTOR = 4
ACTOR_OVERHEAD_BYTES = 3 << 30
"""Memory of an actor beside its weights: kept states, activations, Python."""
IN_FLIGHT = {"cpu": 4, "cuda": 16}
"""Searches interleaved in one actor, by device; the CPU's by measurement (docs/LOG.md)."""


class ActorOptions(Protocol):
    """What a person may ask for of a run's actors; None leaves it to the rules here."""

    @property
    def actors(self) -> int | None:
        """Actors at a time."""

    @property
    def threads_per_actor(self) -> int | None:
        """Torch threads of each."""

    @property
    def gpus_per_actor(self) -> float:
        """GPUs of each on CUDA, or the share of one."""

    @property
    def in_flight(self) -> int | None:
        """Items that each works on at a time."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a run's actors are placed.

    Attributes:
        num_actors: actors at a time.
        threads: torch threads of each actor.
        device: torch device of each.
        devices_per_actor: devices that one model is spread over.
        in_flight: items that each works on at a time.
        resources: what each asks of Ray.
    """

    num_actors: int
    threads: int
    device: str
    devices_per_actor: int
    in_flight: int
    resources: Mapping[str, float]

    def actor_factory(self, worker: type, settings: Any) -> Callable[[str], Any]:
        """Makes Ray actors of a class, each from the settings and the id under which it writes."""
        import ray

        actor: Any = ray.remote(worker).options(
            num_cpus=self.resources["CPU"],
            num_gpus=self.resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,
        )
        return lambda writer: actor.remote(settings, writer)


def default_device(address: str | None) -> str:
    """CUDA where this machine, or the cluster at the address, has a GPU; else the CPU."""
    if address:
        from cluster.session import connect

        with connect(address) as session:
            return "cuda" if session.resources()["GPU"] else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """Of a model's weights, where nobody says otherwise."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def place_actors(
    options: ActorOptions, device: str, offered: Mapping[str, float], folder: Path, num_jobs: int
) -> Placement:
    """Decide on actors for `num_jobs` items.

    Args:
        options: what was asked for; `actors` None means auto: one per GPU, or one per CORES_PER_ACTOR cores,
            as far as memory goes.
        device: torch device.
        offered: the session's total resources.
        folder: of the model.
        num_jobs: items to do.

    Raises:
        InputError: when more is asked for than there is.
    """
    cpus, gpus = int(offered["CPU"]), offered["GPU"]
    kind = "cuda" if device.startswith("cuda") else "cpu"
    if kind == "cuda":
        each = options.gpus_per_actor
        actors = min(options.actors or max(1, math.floor(gpus / each)), num_jobs)
        threads = options.threads_per_actor or 1
        resources = {"CPU": 1.0, "GPU": each}
    else:
        actors = min(options.actors or _cpu_actors(cpus, offered, folder), num_jobs)
        share = max(1, cpus // actors)
        threads = options.threads_per_actor or share
        resources = {"CPU": float(min(threads, share))}
    asked = {name: amount * actors for name, amount in resources.items()}
    if lacking := [name for name, amount in asked.items() if amount > offered.get(name, 0)]:
        name = lacking[0]
        raise InputError(
            f"--actors {actors} on {device} asks for {asked[name]:g} {name}s and there are {offered.get(name, 0):g}; "
            "ask for fewer"
        )
    return Placement(
        actors,
        threads,
        device,
        max(1, round(options.gpus_per_actor)) if kind == "cuda" else 1,
        options.in_flight or IN_FLIGHT[kind],
        resources,
    )


def _cpu_actors(cpus: int, offered: Mapping[str, float], folder: Path) -> int:
    memory = offered.get("memory") or psutil.virtual_memory().available
    fitting = int(memory // (2 * weight_bytes(folder) + ACTOR_OVERHEAD_BYTES))
    return max(1, min(cpus // CORES_PER_ACTOR, fitting))
