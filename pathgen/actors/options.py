"""The options of a command that runs actors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import Quiet, option

from ..errors import InputError
from ..models.devices import DTYPES, check_device_and_dtype


def parse_actors(text: str) -> int | None:
    """Read `--actors`; None stands for `auto`.

    Raises:
        InputError: neither `auto` nor a positive number.
    """
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise InputError(f"--actors must be auto or a positive number; got {text!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorOptions:
    """How many actors run, where, and with what. `place_actors` decides what is None.

    Raises:
        InputError: the share of GPUs or the dtype is not possible.
    """

    actors: Annotated[
        int | None, option("Actors, or auto: one per GPU, or per 4 cores [default: auto].", parse=parse_actors)
    ] = None
    threads_per_actor: Annotated[
        int | None, option("torch threads of each actor [default: cores / actors; 1 on CUDA].", min=1)
    ] = None
    gpus_per_actor: Annotated[float, option("GPUs of each actor.")] = 1.0
    in_flight: Annotated[int | None, option("Searches interleaved in one actor [default: by device].", min=1)] = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: float32 on CPU, bfloat16 on CUDA].")] = None
    device: Annotated[str | None, option("cpu or cuda [default: cuda if there is a GPU].")] = None
    address: Annotated[str | None, option("A Ray cluster: auto or HOST:PORT [default: Ray on this machine].")] = None
    shared_fs: Annotated[bool, option("All nodes see --out as the same folder.")] = False
    start_timeout_s: Annotated[float, option("Seconds for an actor to be ready; then it is replaced.")] = 300.0
    quiet: Quiet = False

    def __post_init__(self) -> None:
        count = self.gpus_per_actor
        if not 0 < count < math.inf or (count > 1 and count % 1):
            raise InputError(f"--gpus-per-actor must be a whole number, or a share between 0 and 1; got {count:g}")
        check_device_and_dtype(None, self.dtype)
