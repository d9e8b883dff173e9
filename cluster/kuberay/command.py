"""`cluster manifest`: this project's commands as other schedulers' job descriptions."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from ..program.console import AsJson, option, print_json
from .ray_job import RayJobOptions, rayjob, to_yaml

manifest_app = typer.Typer(rich_markup_mode=None, help="Write a job for another scheduler, on stdout.")


@manifest_app.callback()
def _manifest() -> None:
    """Write a job for another scheduler, on stdout."""


@manifest_app.command()
def kuberay(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="What to run; its retry resumes.")],
    image: Annotated[str, option("Container image that holds layerpaths and its models' libraries.", "--image")],
    out: Annotated[
        str | None, option("The command's --out: an object store's URL, or a folder of --claim.", "--out")
    ] = None,
    name: Annotated[str, option("Of the RayJob.", "--name")] = "layerpaths",
    ray_version: Annotated[str | None, option("The image's Ray [default: the one here].", "--ray-version")] = None,
    gpus_per_worker: Annotated[int, option("GPUs of a worker pod; 0: CPUs only.", "--gpus-per-worker", min=0)] = 1,
    cpus_per_worker: Annotated[
        str | None, option("CPUs of a worker pod [default: 4, or one per actor if that is more].", "--cpus-per-worker")
    ] = None,
    memory_per_worker: Annotated[str, option("Memory of a worker pod.", "--memory-per-worker")] = "32Gi",
    min_workers: Annotated[int, option("Worker pods always there.", "--min-workers", min=0)] = 0,
    max_workers: Annotated[int, option("Worker pods at most.", "--max-workers", min=1)] = 1,
    secret: Annotated[
        list[str] | None,
        option("A Kubernetes secret by reference: NAME (all keys), or NAME:KEY=VARIABLE; may repeat.", "--secret"),
    ] = None,
    claim: Annotated[
        str | None, option("A volume claim that all pods mount: NAME=/FOLDER; it must be ReadWriteMany.", "--claim")
    ] = None,
    backoff_limit: Annotated[int, option("Retries, each on a new Ray cluster.", "--backoff-limit", min=0)] = 3,
    deadline_s: Annotated[int, option("Seconds after which the job is ended for good.", "--deadline-s", min=1)] = 7
    * 24
    * 3600,
    as_json: AsJson = False,
) -> None:
    """Write a KubeRay RayJob as YAML: `cluster manifest kuberay … -- pathgen generate … | kubectl apply -f -`."""
    manifest = rayjob(
        RayJobOptions(
            command=tuple(command),
            image=image,
            ray_version=ray_version or version("ray"),
            out=out,
            name=name,
            gpus_per_worker=gpus_per_worker,
            cpus_per_worker=cpus_per_worker,
            memory_per_worker=memory_per_worker,
            min_workers=min_workers,
            max_workers=max_workers,
            secrets=tuple(secret or ()),
            claim=claim,
            backoff_limit=backoff_limit,
            deadline_s=deadline_s,
        )
    )
    print_json(manifest) if as_json else print(to_yaml(manifest), end="")
