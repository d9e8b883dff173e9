"""The options of a feature pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import option
from pathgen.actors.options import ActorOptions, parse_actors
from pathgen.models.devices import DTYPES, Device, check_device_and_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOptions(ActorOptions):
    """How a feature pass runs.

    Attributes:
        in_flight: keys that an actor works on at a time, and writes as one file.
        forward_timeout_s: seconds without progress after which an actor is replaced.
    """

    actors: Annotated[
        int | None, option("Actors of the feature pass, or auto [default: auto].", parse=parse_actors)
    ] = None
    in_flight: int = 64
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the paths'].")] = None
    device: Device = None
    shared_fs: Annotated[bool, option("All nodes see --paths as the same folders.")] = False
    start_timeout_s: float = 300.0
    forward_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        ActorOptions.__post_init__(self)
        check_device_and_dtype(self.device, None)
