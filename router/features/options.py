"""What may be asked for of a feature pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import option
from pathgen.actors.options import ActorOptions, parse_actors
from pathgen.models.devices import DTYPES, Device, check_device_and_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOptions(ActorOptions):
    """How a feature pass is carried out.

    Attributes:
        in_flight: keys that an actor works on at a time, and writes as one file.
        start_timeout_s: so long the pass waits for a first actor.
        forward_timeout_s: an actor whose work has not moved for so long is replaced.
    """

    actors: Annotated[
        int | None, option("Of the feature pass: auto, or how many [default: auto].", parse=parse_actors)
    ] = None
    in_flight: int = 64
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the paths'].")] = None
    device: Device = None
    shared_fs: Annotated[bool, option("All nodes see the folders of paths.")] = False
    start_timeout_s: float = 300.0
    forward_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Check what can be checked without Ray."""
        ActorOptions.__post_init__(self)
        check_device_and_dtype(self.device, None)
