"""`cluster`: up, down, status, submit, list, logs, stop, manifest. Ray is imported when a command needs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from .kuberay.ray_job import RayJobOptions, rayjob
from .program.console import AsJson, ListedCommands, make_app, print_json, tell, this_command
from .program.errors import ClusterError, Interrupted, UsageError
from .program.options import command, option

if TYPE_CHECKING:
    from .jobs.jobs import Jobs

app = make_app("cluster", "Start a Ray cluster on this machine, and run jobs on this cluster or another one.")
manifest_app = typer.Typer(
    cls=ListedCommands, rich_markup_mode=None, help="Write a job for another scheduler to stdout."
)
app.add_typer(manifest_app, name="manifest")

Address = Annotated[
    str | None,
    option("http://HOST:PORT of a dashboard, HOST:PORT or auto [default: RAY_ADDRESS, then `cluster up`'s]."),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Submission id, as `cluster list` shows it.")]


@command(app)
def up(
    nodes: Annotated[int, option("Number of nodes, the head included.", min=1)] = 1,
    num_cpus: Annotated[int | None, option("CPUs of each node [default: cores / nodes].", min=1)] = None,
    port: Annotated[int, option("Port of the cluster; 0: a free port.", min=0, max=65535)] = 0,
    dashboard_port: Annotated[
        int, option("Port of the dashboard and the Jobs API; 0: a free port.", min=0, max=65535)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Start a cluster on loopback that requires a token. Other commands find the cluster and its token."""
    from .local.local_cluster import start_cluster

    cpus = num_cpus or max(1, (os.cpu_count() or 1) // nodes)
    started = start_cluster(nodes=nodes, cpus_per_node=cpus, port=port, dashboard_port=dashboard_port)
    if not started.authenticated:
        tell("warning: RAY_AUTH_MODE turns authentication off: anyone who reaches these ports can run code here")
    if as_json:
        print_json(started)
        return
    print(f"{nodes} nodes of {cpus} CPUs at {started.address}, dashboard {started.dashboard}")
    shared = " --shared-fs" if nodes > 1 else ""
    print(f"next: cluster submit -- pathgen generate --out runs/paths{shared}")


@command(app)
def down(as_json: AsJson = False) -> None:
    """End the cluster that `cluster up` started, and its jobs. Other clusters keep running."""
    from .local.local_cluster import stop_cluster

    ended = stop_cluster()
    print_json(ended) if as_json else print(f"ended the cluster at {ended.address}")


@command(app)
def status(address: Address = None, as_json: AsJson = False) -> None:
    """Print nodes, resources, actors, jobs, and the progress of each fleet."""
    from .connection.endpoint import find_endpoint
    from .status import cluster_status, status_text

    found = cluster_status(find_endpoint(address))
    print_json(found) if as_json else print(status_text(found))


@command(app)
def submit(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND…", help="Command to run; the same command resumes.")
    ],
    address: Address = None,
    submission_id: Annotated[str | None, option("Name of the job [default: Ray's].")] = None,
    working_dir: Annotated[str | None, option("Folder to run in, uploaded without data, weights and secrets.")] = None,
    env_file: Annotated[
        str | None,
        option("NAME=VALUE lines for the job. No secrets: Ray shows them to everyone who may list jobs."),
    ] = None,
    pip: Annotated[list[str] | None, option("Package to install for the job; may repeat.")] = None,
    metadata: Annotated[list[str] | None, option("NAME=VALUE to store with the job; may repeat.")] = None,
    wait: Annotated[bool, option("Follow the log and exit with the job's exit code.", "--wait/--no-wait")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a command on the cluster: `cluster submit -- pathgen generate --out DIR`."""
    from .connection.endpoint import find_endpoint
    from .jobs.environment import entrypoint, runtime_env
    from .jobs.jobs import Jobs
    from .jobs.secrets import refuse_secrets

    facts = metadata or []
    for entry in facts:
        if entry.find("=") < 1:
            raise UsageError(f"--metadata takes NAME=VALUE; got {entry}")
    refuse_secrets(facts, "metadata are shown to everyone who may list jobs")
    endpoint = find_endpoint(address)
    environment = runtime_env(endpoint, working_dir=working_dir, env_file=env_file, pip=pip or [])
    jobs = Jobs(endpoint)
    line = entrypoint(command, endpoint, uploads=working_dir is not None, installs=bool(pip))
    pairs = dict(entry.split("=", 1) for entry in facts)
    name = jobs.submit(line, environment, submission_id=submission_id, metadata=pairs)
    if not wait:
        job = jobs.find(name)
        if as_json:
            print_json(job)
        else:
            print(name)
            tell(f"next: cluster logs {name} -f")
        return
    try:
        tell(f"job {name}")
        job = jobs.follow(name, lambda text: print(text, end="", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        raise Interrupted(
            f"job {name} keeps running: `cluster logs {name} -f` follows it, `cluster stop {name}` ends it"
        ) from None
    except ClusterError as error:
        raise ClusterError(
            f"{error}; `cluster logs {name} -f` follows job {name} again. If the cluster is lost, the same command "
            f"resumes, there or on another cluster: {this_command()}"
        ) from error
    print_json(job) if as_json else print(f"{name} {job.status}")
    if job.verdict() and job.exit_code is None:
        tell(f"{job.status}: {job.message}")
    raise typer.Exit(job.verdict())


@command(app, "list")
def list_command(address: Address = None, as_json: AsJson = False) -> None:
    """Print all submitted jobs."""
    found = _jobs(address).list()
    if as_json:
        print_json({"jobs": found})
        return
    for job in found:
        print(f"{job.submission_id}  {job.status:9}  {job.entrypoint}")
    if not found:
        tell("no jobs")


@command(app)
def logs(
    submission_id: JobId,
    address: Address = None,
    follow: Annotated[bool, option("Follow the log until the job ends.", "--follow", "-f")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the output of a job."""
    if follow and as_json:
        raise UsageError("--follow streams text; leave out --json, or --follow")
    jobs = _jobs(address)
    if follow:
        jobs.follow(submission_id, lambda text: print(text, end="", flush=True))
    elif as_json:
        print_json({"submission_id": submission_id, "logs": jobs.logs(submission_id)})
    else:
        print(jobs.logs(submission_id), end="")


@command(app)
def stop(submission_id: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """Stop a job. Finished work is kept, and the same command resumes."""
    job = _jobs(address).stop(submission_id)
    print_json(job) if as_json else print(f"{submission_id} {job.status}")


@command(manifest_app)
def kuberay(options: RayJobOptions, as_json: AsJson = False) -> None:
    """Write a KubeRay RayJob as YAML: `cluster manifest kuberay … -- pathgen generate … | kubectl apply -f -`."""
    for line in options.unseen_files:
        tell(f"warning: {line}")
    manifest = rayjob(options)
    print_json(manifest) if as_json else print(yaml.safe_dump(manifest, sort_keys=False, width=120), end="")


def _jobs(address: str | None) -> Jobs:
    from .connection.endpoint import find_endpoint
    from .jobs.jobs import Jobs

    return Jobs(find_endpoint(address))


def main() -> None:
    """Entry point of the `cluster` console script."""
    app()
