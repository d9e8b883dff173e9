"""The entrypoint of a job, and its Ray runtime environment."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..connection.endpoint import Endpoint
from ..program.errors import UsageError
from .secrets import is_secret, names_secret, refuse_secrets

PROGRAMS = ("pathgen", "router", "infer", "cluster")
EXCLUDES = (
    *(".git", ".venv", "venv", "node_modules", "runs", "*.egg-info", "__pycache__", ".*_cache"),
    *("*.parquet", "*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.npy"),
    *(".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ecdsa*", "id_ed25519*", "*_token", "*.token"),
    *(".netrc", ".aws", ".ssh", ".azure", ".kube", ".config"),
)
"""Not uploaded from a working folder: history, environments, data, weights and secrets."""

STOP_WAIT_S = 20
"""Seconds from a stopped job's SIGTERM to Ray's SIGKILL. Ray's default of 3 is too short for a slow object store."""
RIGHT_PLACE = "set secrets in the environment of the cluster itself (before `cluster up`, or by a Kubernetes secret)"


def entrypoint(command: Sequence[str], endpoint: Endpoint, *, uploads: bool, installs: bool) -> str:
    """The shell line that a cluster runs for a command.

    A cluster that includes this machine runs the programs of this environment. The cluster's own programs run if
    only its dashboard is known, if a folder is uploaded, or if packages are installed. On a local cluster the
    command runs in the current folder, so that relative paths work.

    Raises:
        UsageError: the command contains what looks like a secret, or writes into the uploaded copy of a folder.
    """
    refuse_secrets(command, RIGHT_PLACE)
    program = command[0]
    out = flag_value(command, "--out")
    if uploads and program in PROGRAMS and out is not None and "://" not in out and not Path(out).is_absolute():
        raise UsageError(
            f"--out {out} would lie in the cluster's copy of --working-dir and be lost with it; give an absolute "
            "path or an object store's URL"
        )
    words = list(command)
    if program in PROGRAMS and installs:
        words = ["python", "-m", *words]  # a console script may belong to the base environment
    elif program in PROGRAMS and endpoint.address is not None and not uploads:
        words[0] = str(Path(sys.executable).with_name(program))
    line = shlex.join(words)
    return f"cd {shlex.quote(os.getcwd())} && exec {line}" if endpoint.is_local and not uploads else line


def runtime_env(
    endpoint: Endpoint, *, working_dir: str | None, env_file: str | None, pip: Sequence[str]
) -> dict[str, Any]:
    """Ray's runtime environment of a job.

    Raises:
        UsageError: the folder does not exist, the file of variables is malformed, or it or a package contains a secret.
    """
    # The address is given, because Ray's own search finds the latest of several clusters on a machine.
    variables = {"LAYERPATHS_ADDRESS": endpoint.address or "auto", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    if env_file is not None:
        variables |= read_env_file(env_file)
    environment: dict[str, Any] = {"env_vars": variables}
    if working_dir is not None:
        if not Path(working_dir).is_dir():
            raise UsageError(f"--working-dir {working_dir} is not a folder")
        environment |= {"working_dir": working_dir, "excludes": list(EXCLUDES)}
    if pip:
        refuse_secrets(pip, RIGHT_PLACE)
        environment["pip"] = list(pip)
    return environment


def flag_value(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag in a command, `--flag VALUE` or `--flag=VALUE`; None if the flag is absent."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def read_env_file(path: str) -> dict[str, str]:
    """Variables from a file of `NAME=VALUE` lines; empty lines and lines that begin with # are ignored.

    Raises:
        UsageError: the file cannot be read, has a malformed line, or contains a secret.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path} cannot be read: {error}") from error
    variables = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise UsageError(f"--env-file {path}, line {number}: expected NAME=VALUE")
            variables[name] = value
    if secrets := sorted(name for name, value in variables.items() if names_secret(name) or is_secret(value)):
        raise UsageError(
            f"--env-file {path} sets {', '.join(secrets)}: everyone who may list jobs can read a job's environment; "
            f"{RIGHT_PLACE}"
        )
    return variables
