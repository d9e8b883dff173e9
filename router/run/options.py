"""What `router train` and `router evaluate` are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cluster.program.options import Quiet, option, parse_names
from pathgen.errors import InputError
from pathgen.models.devices import Device, check_device_and_dtype

from ..features.options import FeatureOptions
from ..gates.settings import GateSettings
from ..net.bias import Bias, check_bias
from ..net.config import allowed_actions
from ..net.pooling import Pooling
from ..training.settings import TrainSettings
from ..training.tracking import DEFAULT_TRACKER, TRACKERS

METHODS = ("static", "imitate", "gates")
READ_BY = {
    **dict.fromkeys(("--labels", "--unsolved", "--width", "--tracker"), ("imitate",)),
    **dict.fromkeys(("--batch-size", "--learning-rate", "--patience"), ("imitate",)),
    **dict.fromkeys(("--actors", "--threads-per-actor", "--gpus-per-actor", "--address", "--shared-fs"), ("imitate",)),
    **dict.fromkeys(("--pooling", "--windows", "--epochs"), ("imitate", "gates")),
    **dict.fromkeys(("--rank", "--compute-penalty"), ("gates",)),
    "--static": ("static", "imitate"),
}
"""Which methods read an option of `router train`; of those that are not here all do."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `router train`; static is the winner on development questions (docs/LOG.md).

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    paths: Annotated[tuple[str, ...], option("Folder of paths of `pathgen generate`; may repeat.")]
    out: Annotated[str, option("Folder of the router.")]
    method: Annotated[str, option("static, imitate or gates.")] = "static"
    labels: Annotated[str, option("For imitate: shortest, margin, consensus or value.")] = "shortest"
    unsolved: Annotated[Literal["full", "drop"], option("Questions without a right path: full depth, or left out.")] = (
        "drop"
    )
    static: Annotated[
        str | None, option("F.json of `pathgen static`: the path to deploy, or what is under imitate's heads.")
    ] = None
    actions: Annotated[
        tuple[str, ...], option("What the router may choose [default: skip,execute,repeat].", parse=parse_names)
    ] = ("skip", "execute", "repeat")
    dev: Annotated[
        tuple[str, ...], option("Folder of development questions; may repeat. Else a share of --paths.")
    ] = ()
    dev_share: Annotated[float, option("Held out of --paths, by hash of the id.")] = 0.15
    target_depth: Annotated[float | None, option("Highest depth of the path, or mean on development questions.")] = None
    bias: Annotated[float | None, option("Added to SKIP and taken from REPEAT logits; positive is shallower.")] = None
    model: Annotated[str | None, option("Where the paths' model lies, if not where it was.")] = None
    pooling: Pooling = field(default_factory=Pooling)
    width: Annotated[int, option("For imitate: of the heads' bottleneck.", min=1)] = 128
    training: TrainSettings = field(default_factory=TrainSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    tracker: Annotated[str, option("For imitate: none, tensorboard, wandb, mlflow or trackio.")] = DEFAULT_TRACKER
    features: FeatureOptions = field(default_factory=FeatureOptions)
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
        from ..labels.labels import LABEL_POLICIES

        if self.method not in METHODS:
            raise InputError(f"unknown method {self.method!r}; methods are {', '.join(METHODS)}")
        if self.labels not in LABEL_POLICIES:
            raise InputError(f"unknown label policy {self.labels!r}; policies are {', '.join(LABEL_POLICIES)}")
        if not 0 < self.dev_share < 1:
            raise InputError(f"--dev-share must lie between 0 and 1; got {self.dev_share:g}")
        if self.tracker not in TRACKERS:
            raise InputError(f"unknown tracker {self.tracker!r}; trackers are {', '.join(TRACKERS)}")
        if self.bias is not None:
            check_bias(self.bias)
        if self.target_depth is not None and not 0 < self.target_depth < math.inf:
            raise InputError(f"--target-depth must be above 0; got {self.target_depth:g}")
        if self.bias is not None and self.method == "static":
            raise InputError("--bias shifts what heads or gates choose; method static has neither: give --target-depth")
        if self.bias is not None and self.target_depth is not None:
            raise InputError("--bias and --target-depth both set how deep the router goes; give one")
        try:
            allowed_actions(self.actions)
        except ValueError as error:
            raise InputError(f"--actions: {error}") from error


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The options of `router evaluate`.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    router: Annotated[str, option("Folder or hub id of a router.")]
    paths: Annotated[tuple[str, ...], option("Folder of paths; may repeat.")]
    bias: Bias = 0.0
    model: Annotated[str | None, option("Where the base model lies, if not where it was.")] = None
    device: Device = None
    seed: Annotated[int, option("Of the intervals.", min=0)] = 0
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check what can be checked without a folder."""
        check_bias(self.bias)
        check_device_and_dtype(self.device, None)
