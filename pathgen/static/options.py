"""The options of `pathgen static`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import Quiet, option

from ..models.devices import DTYPES, Device, check_device_and_dtype


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """The options of `pathgen static`; InputError for a device or dtype that does not exist."""

    paths: Annotated[tuple[str, ...], option("A run's folder; may repeat, all of one model.")]
    out: Annotated[str, option("JSON file to write.")]
    limit: Annotated[int | None, option("At most N questions of each folder.", min=1)] = None
    candidates: Annotated[int, option("Paths to evaluate on the questions.", min=3)] = 48
    folds: Annotated[int, option("Folds of the cross-validation, at most.", min=3)] = 5
    device: Device = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the run's].")] = None
    threads: Annotated[int | None, option("torch threads [default: the cores].", min=1)] = None
    seed: Annotated[int, option("Of the folds and the order of questions.")] = 0
    model: Annotated[str | None, option("The runs' model, if it has moved.")] = None
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check device and dtype."""
        check_device_and_dtype(self.device, self.dtype)
