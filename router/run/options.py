"""The options of `router train` and `router evaluate`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cluster.program.options import Quiet, option, parse_names
from pathgen.errors import InputError
from pathgen.models.devices import Device, check_device_and_dtype

from ..dev.risk import StatedRisk
from ..features.options import FeatureOptions
from ..gates.settings import GateSettings
from ..net.bias import Bias, check_bias
from ..net.config import allowed_actions
from ..net.pooling import Pooling
from ..training.settings import TrainSettings
from ..training.tracking import DEFAULT_TRACKER, TRACKERS

DEFAULT_RISK = 0.05
"""Of static paths, if no other bound is given: the share of answers that may differ from full depth's."""
DEFAULT_DEV_SHARE = 0.15
METHODS = ("static", "cascade", "imitate", "gates")
READ_BY = {
    **dict.fromkeys(("--labels", "--unsolved", "--width", "--tracker"), ("imitate",)),
    **dict.fromkeys(("--batch-size", "--learning-rate", "--patience"), ("imitate",)),
    **dict.fromkeys(("--actors", "--threads-per-actor", "--gpus-per-actor", "--address", "--shared-fs"), ("imitate",)),
    **dict.fromkeys(("--pooling", "--windows", "--epochs"), ("imitate", "gates")),
    **dict.fromkeys(("--rank", "--compute-penalty"), ("gates",)),
    "--static": ("static", "cascade", "imitate"),
}
"""The methods that read an option of `router train`; all methods read an option that is not listed."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `router train`; method static was the best on development questions (docs/LOG.md).

    Raises:
        InputError: an option is out of bounds; the message names it.
    """

    paths: Annotated[tuple[str, ...], option("Folder of paths from `pathgen generate`; may repeat.")]
    out: Annotated[str, option("Folder to write the router to.")]
    method: Annotated[
        str,
        option(
            "static (one path for all), cascade (full depth where it is unsure), imitate (learns searched paths) or "
            "gates (trained on the task's loss)."
        ),
    ] = "static"
    labels: Annotated[str, option("For imitate: shortest, margin, consensus or value.")] = "shortest"
    unsolved: Annotated[Literal["full", "drop"], option("Questions without a right path: full path or drop.")] = "drop"
    static: Annotated[
        str | None, option("F.json of `pathgen static`: the path to deploy, or the path below imitate's heads.")
    ] = None
    bridges: Annotated[
        str | None, option("Folder of `pathgen bridge`, to run where the router skips [default: the run's own].")
    ] = None
    actions: Annotated[
        tuple[str, ...], option("Actions that the router may choose [default: skip,execute,repeat].", parse=parse_names)
    ] = ("skip", "execute", "repeat")
    dev: Annotated[
        tuple[str, ...], option("Folder of development questions; may repeat [default: a share of --paths].")
    ] = ()
    dev_share: Annotated[
        float | None,
        option("Share of --paths to hold out, by hash of the id [default: 0.15; static with --static: 1]."),
    ] = None
    target_depth: Annotated[
        float | None, option("Highest depth of the path, or mean depth on development questions.")
    ] = None
    risk: Annotated[
        float | None,
        option(
            "Deploy the shallowest path whose answers differ from full depth's on at most this share "
            "[default: 0.05 for cascade, and for static without --target-depth]."
        ),
    ] = None
    max_loss: Annotated[
        float | None, option("Deploy the shallowest path whose accuracy is at most this far below full depth's.")
    ] = None
    no_risk: Annotated[
        bool, option("State no risk: deploy the path of `pathgen static` that is best by its own figures.", "--no-risk")
    ] = False
    confidence: Annotated[float, option("Confidence in --risk or --max-loss.")] = 0.95
    bias: Annotated[float | None, option("Added to SKIP, subtracted from REPEAT logits; positive: shallower.")] = None
    model: Annotated[str | None, option("Where the paths' model is now, if it has moved.")] = None
    pooling: Pooling = field(default_factory=Pooling)
    width: Annotated[int, option("For imitate: width of the heads' bottleneck.", min=1)] = 128
    training: TrainSettings = field(default_factory=TrainSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    tracker: Annotated[str, option("For imitate: none, tensorboard, wandb, mlflow or trackio.")] = DEFAULT_TRACKER
    features: FeatureOptions = field(default_factory=FeatureOptions)
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check the fields."""
        from ..labels.labels import LABEL_POLICIES

        if self.method not in METHODS:
            raise InputError(f"unknown method {self.method!r}; methods are {', '.join(METHODS)}")
        if self.labels not in LABEL_POLICIES:
            raise InputError(f"unknown label policy {self.labels!r}; policies are {', '.join(LABEL_POLICIES)}")
        if self.dev_share is not None and not 0 < self.dev_share < 1:
            raise InputError(f"--dev-share must lie between 0 and 1; got {self.dev_share:g}")
        if self.tracker not in TRACKERS:
            raise InputError(f"unknown tracker {self.tracker!r}; trackers are {', '.join(TRACKERS)}")
        if self.bias is not None:
            check_bias(self.bias)
        if self.target_depth is not None and not 0 < self.target_depth < math.inf:
            raise InputError(f"--target-depth must be above 0; got {self.target_depth:g}")
        if self.bias is not None and self.follows_static:
            instead = "--target-depth" if self.method == "static" else "--risk"
            raise InputError(
                f"--bias shifts what heads or gates choose; method {self.method} has neither: give {instead}"
            )
        if self.method == "cascade" and (self.no_risk or self.target_depth is not None):
            given = "--no-risk" if self.no_risk else "--target-depth"
            raise InputError(f"a cascade is as shallow as its risk allows: give --risk or --max-loss, not {given}")
        if self.bias is not None and self.target_depth is not None:
            raise InputError("--bias and --target-depth both set how deep the router goes; give one")
        try:
            allowed_actions(self.actions)
        except ValueError as error:
            raise InputError(f"--actions: {error}") from error
        self._check_risk()

    @property
    def stated_risk(self) -> StatedRisk | None:
        """What --risk or --max-loss states; of static paths, DEFAULT_RISK where nothing else sets the depth."""
        if self.max_loss is not None:
            return StatedRisk("loss", self.max_loss, self.confidence)
        if self.risk is not None:
            return StatedRisk("disagreement", self.risk, self.confidence)
        if not self.follows_static or self.target_depth is not None or self.no_risk:
            return None
        return StatedRisk("disagreement", DEFAULT_RISK, self.confidence)

    @property
    def share_held_out(self) -> float:
        """Share of --paths to hold out: all of them where nothing is trained on them, as the static paths are given."""
        if self.dev_share is not None:
            return self.dev_share
        return 1.0 if self.trains_on_nothing else DEFAULT_DEV_SHARE

    @property
    def trains_on_nothing(self) -> bool:
        """Whether the static paths to choose from are given."""
        return self.follows_static and self.static is not None

    @property
    def follows_static(self) -> bool:
        """Whether static paths are what the method deploys: it trains no heads and no gates."""
        return self.method in ("static", "cascade")

    def _check_risk(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise InputError(f"--confidence must lie between 0.5 and 1; got {self.confidence:g}")
        given = [name for name in ("risk", "max_loss") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError("--risk bounds answers that differ, --max-loss accuracy lost; give one")
        if given and self.no_risk:
            raise InputError(f"--no-risk and --{given[0].replace('_', '-')} exclude each other; give one")
        for name in given:
            flag, value = f"--{name.replace('_', '-')}", getattr(self, name)
            if not 0 < value < 1:
                raise InputError(f"{flag} must lie between 0 and 1; got {value:g}")
            for other in ("target_depth", "bias"):
                if getattr(self, other) is not None:
                    raise InputError(f"{flag} and --{other.replace('_', '-')} both set how deep to go; give one")
            if not self.follows_static and "repeat" in self.actions:
                raise InputError(
                    f"{flag} tries biases from full depth on, and low ones repeat layers: give --actions skip,execute"
                )


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The options of `router evaluate`; errors as in `TrainOptions`."""

    router: Annotated[str, option("Folder or hub id of a router.")]
    paths: Annotated[tuple[str, ...], option("Folder of paths; may repeat.")]
    bias: Bias = 0.0
    model: Annotated[str | None, option("Where the base model is now, if it has moved.")] = None
    device: Device = None
    seed: Annotated[int, option("Seed of the intervals.", min=0)] = 0
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check the fields."""
        check_bias(self.bias)
        check_device_and_dtype(self.device, None)
