"""Where actors run: how many, on what device, with how many threads, bounded by cores and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .checkpoints import weight_bytes
from .errors import InputError
from .job import RunSettings

if TYPE_CHECKING:
    from .options import GenerateOptions

CORES_PER_ACTOR = 4
ACTOR_OVERHEAD_BYTES = 3 << 30
"""Memory of an actor beside its weights: kept states, activations, Python."""
IN_FLIGHT = {"cpu": 4, "cuda": 16}
"""Searches interleaved in one actor, by device; the CPU's by measurement (docs/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a run's actors are placed.

    Attributes:
        num_actors: actors at a time.
        threads: torch threads of each actor.
        device: torch device of each.
        devices_per_actor: devices that one model is spread over.
        in_flight: searches interleaved in each.
        resources: what each asks of Ray.
    """

    num_actors: int
    threads: int
    device: str
    devices_per_actor: int
    in_flight: int
    resources: Mapping[str, float]

    def actor_factory(self, run: RunSettings) -> Callable[[str], Any]:
        """Makes a Ray actor that writes under the given id."""
        import ray

        from .worker import SearchWorker

        actor = ray.remote(SearchWorker).options(
            num_cpus=self.resources["CPU"],
            num_gpus=self.resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,
        )
        return lambda writer: actor.remote(run, writer)


def default_device(address: str | None) -> str:
    """CUDA where this machine, or the cluster at the address, has a GPU; else the CPU."""
    if address:
        from cluster.session import connect

        with connect(address) as session:
            return "cuda" if session.resources()["GPU"] else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def place_actors(
    options: GenerateOptions, device: str, offered: Mapping[str, float], folder: Path, num_jobs: int
) -> Placement:
    """Decide on actors for `num_jobs` questions.

    Args:
        options: what was asked for; `actors` None means auto: one per GPU, or one per CORES_PER_ACTOR cores,
            as far as memory goes.
        device: torch device.
        offered: the session's total resources.
        folder: of the model.
        num_jobs: questions to do.

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
