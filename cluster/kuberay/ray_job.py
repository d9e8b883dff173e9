"""A KubeRay RayJob: the same command on a Kubernetes cluster of GPU workers that grows, shrinks and is rebuilt.

Why the job looks as it does, by KubeRay's ray.io/v1 types and its operator:

- A retry (`backoffLimit`) makes a new Ray cluster, so all state lies outside: an object store, or a claim that all
  pods mount. The same command resumes there.
- The entrypoint is one command without shell operators: the operator sets it unquoted into the submitter's shell,
  where `a && b` would run b outside the cluster.
- Any exit code but 0 costs a rebuilt cluster, also one that no retry can mend. Wrong use (2) and a foreign output
  (4) are found by the driver on the head before it asks for an actor, and so for a GPU pod; failed questions (3)
  are rows of the output and no reason to retry, hence LAYERPATHS_ALLOW_FAILURES=1, which a flag of the command
  overrides.
- Actors are asked for in their full number, which is what makes the autoscaler bring workers, from none.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ..jobs.environment import STOP_WAIT_S, flag_value
from ..jobs.secrets import refuse_secrets
from ..program.errors import UsageError
from ..program.options import option

TEMPLATE = Path(__file__).with_name("ray_job.yaml.jinja")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
"""KubeRay takes 47 characters: it appends to the name, and to that a service's suffix."""
KUBERNETES_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
SECRET = re.compile(rf"(?P<name>{KUBERNETES_NAME})(:(?P<key>[-._a-zA-Z0-9]+)=(?P<variable>[A-Za-z_][A-Za-z0-9_]*))?")
CLAIM = re.compile(rf"(?P<name>{KUBERNETES_NAME})=(?P<folder>/[^:\s]+)")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTP]i?)?")
MIN_RAY = (2, 52)
"""KubeRay refuses token authentication with an older Ray."""

RIGHT_PLACE = "keep it in a Kubernetes secret and name that by --secret NAME or NAME:KEY=VARIABLE"
MIN_CPUS = 4


@dataclass(frozen=True, slots=True)
class RayJobOptions:
    """What a RayJob is made of; the help of `cluster manifest kuberay` tells each.

    Attributes:
        command: the words of the command, its `--out` among them unless `out` is given.

    Raises:
        UsageError: names the option, what it may be, and what was given.
    """

    command: Annotated[tuple[str, ...], typer.Argument(metavar="-- COMMAND…", help="What to run; its retry resumes.")]
    image: Annotated[str, option("Container image that holds layerpaths and its models' libraries.")]
    out: Annotated[str | None, option("The command's --out: an object store's URL, or a folder of --claim.")] = None
    name: Annotated[str, option("Of the RayJob.")] = "layerpaths"
    ray_version: Annotated[str, option("The image's Ray [default: the one here].")] = field(
        default_factory=lambda: version("ray")
    )
    gpus_per_worker: Annotated[int, option("GPUs of a worker pod; 0: CPUs only.", min=0)] = 1
    cpus_per_worker: Annotated[
        str | None, option("CPUs of a worker pod [default: 4, or one per actor if that is more].")
    ] = None
    memory_per_worker: Annotated[str, option("Memory of a worker pod.")] = "32Gi"
    min_workers: Annotated[int, option("Worker pods always there.", min=0)] = 0
    max_workers: Annotated[int, option("Worker pods at most.", min=1)] = 1
    secrets: Annotated[
        tuple[str, ...],
        option("A Kubernetes secret by reference: NAME (all keys), or NAME:KEY=VARIABLE; may repeat.", "--secret"),
    ] = ()
    claim: Annotated[
        str | None, option("A volume claim that all pods mount: NAME=/FOLDER; it must be ReadWriteMany.")
    ] = None
    backoff_limit: Annotated[int, option("Retries, each on a new Ray cluster.", min=0)] = 3
    deadline_s: Annotated[int, option("Seconds after which the job is ended for good.", min=1)] = 7 * 24 * 3600

    def __post_init__(self) -> None:
        """Refuse what Kubernetes would refuse late, or run wrongly."""
        if not NAME.fullmatch(self.name):
            raise UsageError(f"--name takes 1 to 47 of a-z, 0-9 and -, a letter first; got {self.name!r}")
        numbers = re.match(r"(\d+)\.(\d+)\.", self.ray_version)
        if not numbers or (int(numbers[1]), int(numbers[2])) < MIN_RAY:
            raise UsageError(f"--ray-version is the image's Ray, 2.52.0 or later; got {self.ray_version!r}")
        if self.min_workers > self.max_workers:
            raise UsageError(
                f"workers go from --min-workers to --max-workers; got {self.min_workers} to {self.max_workers}"
            )
        quantities = {"--cpus-per-worker": self.cpus_per_worker, "--memory-per-worker": self.memory_per_worker}
        for flag, value in quantities.items():
            if value is not None and not QUANTITY.fullmatch(value):
                raise UsageError(f"{flag} is a Kubernetes quantity such as 4 or 32Gi; got {value!r}")
        for secret in self.secrets:
            if not SECRET.fullmatch(secret):
                # Not repeated: it may be the secret itself.
                raise UsageError("--secret is NAME or NAME:KEY=VARIABLE of a Kubernetes secret, by reference")
        if self.claim is not None and not CLAIM.fullmatch(self.claim):
            raise UsageError(f"--claim is NAME=/FOLDER, a volume claim and where pods mount it; got {self.claim!r}")
        if not self.command:
            raise UsageError("no command given; write it after --, for example: -- pathgen generate --questions …")
        refuse_secrets((*self.command, self.out or ""), RIGHT_PLACE)
        self._check_output()
        if not self.actors_per_worker:
            raise UsageError(
                f"an actor of {self._gpus_per_actor:g} GPUs does not fit a worker of {self.gpus_per_worker}"
            )
        if self.whole_cpus < self.actors_per_worker:
            raise UsageError(
                f"--cpus-per-worker {self.cpus_per_worker}: a worker holds {self.actors_per_worker} actors, each of "
                f"which asks Ray for a CPU; give {self.actors_per_worker} or more"
            )

    @property
    def entrypoint(self) -> str:
        """The command, quoted for one shell, which writes to the output."""
        words = list(self.command)
        if self.out is not None and flag_value(words, "--out") is None:
            words += ["--out", self.out]
        return shlex.join(words)

    @property
    def actors_per_worker(self) -> int:
        """One for each share of its GPUs; without any, one."""
        return math.floor(self.gpus_per_worker / self._gpus_per_actor) if self.gpus_per_worker else 1

    @property
    def cpus(self) -> str:
        """Of a worker: those asked for, else enough for its actors."""
        return self.cpus_per_worker or str(max(MIN_CPUS, self.actors_per_worker))

    @property
    def whole_cpus(self) -> int:
        """A worker's CPUs as Ray counts them, which rounds a part of one up."""
        milli = self.cpus.endswith("m")
        return math.ceil(float(self.cpus.rstrip("mkMGTPi")) / (1000 if milli else 1))

    @property
    def _gpus_per_actor(self) -> float:
        given = flag_value(self.command, "--gpus-per-actor") or "1"
        try:
            if (number := float(given)) > 0:
                return number
        except ValueError:
            pass
        raise UsageError(f"--gpus-per-actor must be a number above 0; got {given!r}")

    def _check_output(self) -> None:
        own = flag_value(self.command, "--out")
        if own is not None and self.out not in (None, own):
            raise UsageError(f"--out {self.out} here and --out {own} in the command; give one")
        out = own or self.out
        if out is None:
            raise UsageError("where to? give --out, an object store's URL such as s3://bucket/run")
        protocol, is_url, _ = out.partition("://")
        mount = self.claim.partition("=")[2].rstrip("/") if self.claim else None
        if is_url and protocol not in ("file", "local", "memory"):
            if self.command[0] == "router":
                raise UsageError(f"--out {out}: a router is written to a folder; give one below what --claim mounts")
            return
        if mount is None or not out.startswith(f"{mount}/"):
            raise UsageError(
                f"--out {out} is a folder of one pod, and gone with it; give an object store's URL such as "
                "s3://bucket/run, or a folder below the one that --claim mounts"
            )


def rayjob(options: RayJobOptions) -> dict[str, Any]:
    """The RayJob as plain data, by KubeRay's ray.io/v1 types."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701  no HTML
    environment.filters["quoted"] = lambda text: yaml.safe_dump(text, default_style='"', width=math.inf).strip()
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        job=options,
        secrets=[SECRET.fullmatch(secret) for secret in options.secrets],
        claim=CLAIM.fullmatch(options.claim or ""),
        stop_wait_s=STOP_WAIT_S,
    )
    return yaml.safe_load(text)


def to_yaml(manifest: dict[str, Any]) -> str:
    """The manifest as YAML for `kubectl apply`, in the order given."""
    return yaml.safe_dump(manifest, sort_keys=False, width=120)
