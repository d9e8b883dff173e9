"""Devices and dtypes: names, defaults and checks."""

from __future__ import annotations

import re
from typing import Annotated, Any

from cluster.connection.probe import Probe
from cluster.program.options import option

from ..errors import InputError

DTYPES = ("float32", "bfloat16", "float16")
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
Device = Annotated[str | None, option("cpu, cuda or cuda:N [default: cuda if available, else cpu].")]


def default_device(cluster: Probe | None = None) -> str:
    """`cuda` if the cluster (or, without one, this machine) has a GPU, else `cpu`."""
    if cluster is not None:
        return "cuda" if any(node["GPU"] for node in cluster.nodes()) else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(wanted: str | None, cluster: Probe | None) -> None:
    """Raise InputError for a GPU that this machine lacks; to a cluster, one may still be added."""
    if wanted is not None and wanted.startswith("cuda") and cluster is None and default_device() == "cpu":
        raise InputError(f"--device {wanted}: torch sees no CUDA device here; leave it out, or give --address")


def default_dtype(device: str) -> str:
    """The default dtype of a model's weights on this device."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def check_device_and_dtype(device: str | None, dtype: str | None) -> None:
    """Raise InputError for an unknown device or dtype; None stands for the default."""
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if device is not None and not DEVICE.fullmatch(device):
        raise InputError(f"--device must be cpu, cuda or cuda:N; got {device!r}")


def is_slow_on_cpu(dtype: str) -> bool:
    """Whether this machine's CPU has no instructions for a narrow dtype, so that float32 is several times faster."""
    import torch

    short = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions do not tell
    able = any(has for name, has in capabilities.items() if short is not None and name.endswith(short))
    return short is not None and bool(capabilities) and not able
