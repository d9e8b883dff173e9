"""Devices and number formats: what there is, what may be asked for, and the defaults."""

from __future__ import annotations

import re
from typing import Annotated

from cluster.connection.probe import Probe
from cluster.program.options import option

from ..errors import InputError

DTYPES = ("float32", "bfloat16", "float16")
"""In which a model is run."""
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
Device = Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].")]


def default_device(cluster: Probe | None = None) -> str:
    """CUDA where this machine, or the cluster in its place, has a GPU; else the CPU."""
    if cluster is not None:
        return "cuda" if any(node["GPU"] for node in cluster.nodes()) else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(wanted: str | None, cluster: Probe | None) -> None:
    """See that a GPU that is asked for is here, unless the actors run on a cluster: one may join.

    Raises:
        InputError: there is none.
    """
    if wanted is not None and wanted.startswith("cuda") and cluster is None and default_device() == "cpu":
        raise InputError(f"--device {wanted}: torch sees no CUDA device here; leave it out, or give --address")


def default_dtype(device: str) -> str:
    """Of a model's weights, where nobody says otherwise."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def check_device_and_dtype(device: str | None, dtype: str | None) -> None:
    """Of a model in this process; None is left to the rules.

    Raises:
        InputError: either is none.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if device is not None and not DEVICE.fullmatch(device):
        raise InputError(f"--device must be cpu, cuda or cuda:N; got {device!r}")
