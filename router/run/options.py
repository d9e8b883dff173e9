"""What `router train` is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pathgen.errors import InputError
from pathgen.models.devices import check_device_and_dtype

from ..features.run import FeatureOptions
from ..gates.gates import GateSettings
from ..labels.labels import LABEL_POLICIES
from ..net.config import allowed_actions
from ..net.policy import check_bias
from ..net.pooling import Pooling
from ..training.settings import TrainSettings
from ..training.tracking import DEFAULT_TRACKER, TRACKERS

METHODS = ("static", "imitate", "gates")
DEFAULT_METHOD = "static"
"""The winner on development questions (docs/LOG.md)."""
DEV_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `router train`; its help tells each.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    paths: tuple[str, ...]
    out: str
    method: str = DEFAULT_METHOD
    labels: str = "shortest"
    unsolved: Literal["full", "drop"] = "drop"
    static: str | None = None
    actions: tuple[str, ...] = ("skip", "execute", "repeat")
    dev: tuple[str, ...] = ()
    dev_share: float = DEV_SHARE
    target_depth: float | None = None
    bias: float | None = None
    model: str | None = None
    pooling: Pooling = field(default_factory=Pooling)
    width: int = 128
    training: TrainSettings = field(default_factory=TrainSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    tracker: str = DEFAULT_TRACKER
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
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
        check_device_and_dtype(self.features.device, self.features.dtype)
        if self.bias is not None and self.target_depth is not None:
            raise InputError("--bias and --target-depth both set how deep the router goes; give one")
        if self.width < 1:
            raise InputError(f"--width must be at least 1; got {self.width}")
        try:
            allowed_actions(self.actions)
        except ValueError as error:
            raise InputError(f"--actions: {error}") from error
