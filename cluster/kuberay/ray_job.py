"""A KubeRay RayJob: the same command on a Kubernetes cluster of GPU workers that grows, shrinks and is rebuilt.

The manifest follows KubeRay's ray.io/v1 types and its operator:

- A retry (`backoffLimit`) makes a new Ray cluster, so all state is outside: in an object store, or in a claim that all
  pods mount. The same command resumes there.
- The entrypoint is one command without shell operators. The operator puts it unquoted into the submitter's shell, where
  `a && b` would run b outside the cluster.
- Any exit code except 0 rebuilds the cluster, even if a retry cannot help. The driver on the head finds wrong use (2)
  and an output of another run (4) before it requests an actor, and so a GPU pod. Failed questions (3) are rows of the
  output and no reason to retry, hence LAYERPATHS_ALLOW_FAILURES=1, which a flag of the command overrides.
- The driver requests all actors at once, so the autoscaler adds workers, starting from none.
"""

from __future__ import annotations

import math
import re
import shlex
from contextlib import suppress
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

KUBERNETES_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
SECRET = re.compile(rf"(?P<name>{KUBERNETES_NAME})(:(?P<key>[-._a-zA-Z0-9]+)=(?P<variable>[A-Za-z_][A-Za-z0-9_]*))?")
CLAIM = re.compile(rf"(?P<name>{KUBERNETES_NAME})=(?P<folder>/[^:\s]+)")

QUESTION_SUFFIXES = (".jsonl", ".json", ".parquet", ".txt")


@dataclass(frozen=True, slots=True)
class RayJobOptions:
    """Options of `cluster manifest kuberay`; the command contains `--out` unless `out` is given.

    Raises:
        UsageError: names the option, its allowed values, and the given value.
    """

    command: Annotated[tuple[str, ...], typer.Argument(metavar="-- COMMAND…", help="Command to run; a retry resumes.")]
    image: Annotated[str, option("Container image with layerpaths and the libraries of its models.")]
    out: Annotated[str | None, option("--out of the command: an object store's URL, or a folder of --claim.")] = None
    name: Annotated[str, option("Name of the RayJob.")] = "layerpaths"
    ray_version: Annotated[str, option("Version of Ray in the image [default: the version here].")] = field(
        default_factory=lambda: version("ray")
    )
    gpus_per_worker: Annotated[int, option("GPUs of a worker pod; 0: CPUs only.", min=0)] = 1
    cpus_per_worker: Annotated[str | None, option("CPUs of a worker pod [default: at least 4, one per actor].")] = None
    memory_per_worker: Annotated[str, option("Memory of a worker pod.")] = "32Gi"
    min_workers: Annotated[int, option("Minimum number of worker pods.", min=0)] = 0
    max_workers: Annotated[int, option("Maximum number of worker pods.", min=1)] = 1
    secrets: Annotated[
        tuple[str, ...],
        option("Reference to a Kubernetes secret: NAME (all keys), or NAME:KEY=VARIABLE; may repeat.", "--secret"),
    ] = ()
    claim: Annotated[str | None, option("ReadWriteMany volume claim that all pods mount: NAME=/FOLDER.")] = None
    backoff_limit: Annotated[int, option("Retries, each on a new Ray cluster.", min=0)] = 3
    deadline_s: Annotated[int, option("Seconds until the job is ended, without a retry.", min=1)] = 7 * 24 * 3600

    def __post_init__(self) -> None:
        """Refuse what Kubernetes would refuse late, or run wrongly."""
        # KubeRay appends to the name, and then a service's suffix.
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", self.name):
            raise UsageError(f"--name takes 1 to 47 of a-z, 0-9 and -, a letter first; got {self.name!r}")
        numbers = re.match(r"(\d+)\.(\d+)\.", self.ray_version)
        # KubeRay refuses token authentication with an older Ray.
        if not numbers or (int(numbers[1]), int(numbers[2])) < (2, 52):
            raise UsageError(f"--ray-version must be the image's Ray, 2.52.0 or later; got {self.ray_version!r}")
        if self.min_workers > self.max_workers:
            raise UsageError(f"--min-workers exceeds --max-workers; got {self.min_workers} to {self.max_workers}")
        quantities = {"--cpus-per-worker": self.cpus_per_worker, "--memory-per-worker": self.memory_per_worker}
        for flag, value in quantities.items():
            if value is not None and not re.fullmatch(r"\d+(\.\d+)?(m|[kMGTP]i?)?", value):
                raise UsageError(f"{flag} is a Kubernetes quantity such as 4 or 32Gi; got {value!r}")
        if not all(SECRET.fullmatch(secret) for secret in self.secrets):
            # The value is not repeated: it may be the secret itself.
            raise UsageError("--secret is NAME or NAME:KEY=VARIABLE, a reference to a Kubernetes secret")
        if self.claim is not None and not CLAIM.fullmatch(self.claim):
            raise UsageError(f"--claim is NAME=/FOLDER, a volume claim and its mount path; got {self.claim!r}")
        if not self.command:
            raise UsageError("no command given; write it after --, for example: -- pathgen generate --questions …")
        refuse_secrets(
            (*self.command, self.out or ""),
            "keep it in a Kubernetes secret and refer to it by --secret NAME or NAME:KEY=VARIABLE",
        )
        self._check_output()
        actors = self.actors_per_worker
        if not actors:
            raise UsageError(
                f"an actor of {self._gpus_per_actor:g} GPUs does not fit a worker of {self.gpus_per_worker}"
            )
        if self.whole_cpus < actors:
            raise UsageError(
                f"--cpus-per-worker {self.cpus_per_worker}: a worker holds {actors} actors, each of which asks Ray for "
                f"a CPU; give {actors} or more"
            )

    @property
    def entrypoint(self) -> str:
        """The command with its `--out`, quoted for one shell."""
        words = list(self.command)
        if self.out is not None and flag_value(words, "--out") is None:
            words += ["--out", self.out]
        return shlex.join(words)

    @property
    def unseen_files(self) -> list[str]:
        """Question files of the command that pods see only if the image holds them: a line on each, for a warning."""
        mount = self.claim.partition("=")[2].rstrip("/") if self.claim else None
        found = []
        for flag in ("--questions", "--text", "--file"):
            value = flag_value(self.command, flag)
            if value is None or not value.endswith(QUESTION_SUFFIXES) or "://" in value:
                continue
            if mount is None or not value.startswith(f"{mount}/"):
                below = f"copy it below {mount}" if mount else "mount a --claim and copy it there"
                found.append(
                    f"{flag} {value} is a file of this machine, and pods see it only if the image holds it: {below}, "
                    "or give an object store's URL such as s3://bucket/questions.jsonl, or a hub dataset"
                )
        return found

    @property
    def actors_per_worker(self) -> int:
        """Number of actors that fit into a worker's GPUs; one without GPUs."""
        return math.floor(self.gpus_per_worker / self._gpus_per_actor) if self.gpus_per_worker else 1

    @property
    def cpus(self) -> str:
        """CPUs of a worker: the given ones, else at least 4 and one per actor."""
        return self.cpus_per_worker or str(max(4, self.actors_per_worker))

    @property
    def whole_cpus(self) -> int:
        """A worker's CPUs as Ray counts them: rounded up."""
        return math.ceil(float(self.cpus.rstrip("mkMGTPi")) / (1000 if self.cpus.endswith("m") else 1))

    @property
    def _gpus_per_actor(self) -> float:
        given = flag_value(self.command, "--gpus-per-actor") or "1"
        with suppress(ValueError):
            if (number := float(given)) > 0:
                return number
        raise UsageError(f"--gpus-per-actor must be a number above 0; got {given!r}")

    def _check_output(self) -> None:
        own = flag_value(self.command, "--out")
        if own is not None and self.out not in (None, own):
            raise UsageError(f"--out {self.out} here and --out {own} in the command; give one")
        out = own or self.out
        if out is None:
            raise UsageError("no output given; give --out, an object store's URL such as s3://bucket/run")
        protocol, is_url, _ = out.partition("://")
        mount = self.claim.partition("=")[2].rstrip("/") if self.claim else None
        if is_url and protocol not in ("file", "local", "memory"):
            if self.command[0] == "router":
                raise UsageError(f"--out {out}: a router needs a folder; give one below the folder of --claim")
            return
        if mount is None or not out.startswith(f"{mount}/"):
            raise UsageError(
                f"--out {out} is a folder of one pod and is lost with it; give an object store's URL such as "
                "s3://bucket/run, or a folder below the folder of --claim"
            )


def rayjob(options: RayJobOptions) -> dict[str, Any]:
    """The RayJob as plain data, by KubeRay's ray.io/v1 types."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701  no HTML
    environment.filters["quoted"] = lambda text: yaml.safe_dump(text, default_style='"', width=math.inf).strip()
    template = Path(__file__).with_name("ray_job.yaml.jinja").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        job=options,
        secrets=[SECRET.fullmatch(secret) for secret in options.secrets],
        claim=CLAIM.fullmatch(options.claim or ""),
        stop_wait_s=STOP_WAIT_S,
    )
    return yaml.safe_load(text)
