"""What `pathgen generate` is asked for, and which of it makes two runs the same run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..models.devices import check_device_and_dtype
from ..paths.cost import CostName
from ..search.settings import SearchSettings

if TYPE_CHECKING:
    from ..questions.tasks import Task
    from ..search.prior import Prior

ABOVE_ZERO = ("seconds_budget", "question_timeout_s", "start_timeout_s")
_PLACES = ("actors", "threads_per_actor", "gpus_per_actor", "in_flight", "device", "address", "shared_fs")
NO_SETTINGS = (*_PLACES, *ABOVE_ZERO[1:], "limit", "columns", "retry_failed", "allow_failures")
"""Options that may differ between the calls of a run."""


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """The options of `pathgen generate`; its help tells each.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    out: str
    model: str = "smollm2-135m"
    task: str = "arc"
    questions: str = "builtin"
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    chat: bool = False
    search: SearchSettings = field(default_factory=SearchSettings)
    seconds_budget: float | None = None
    cost: CostName = "layers"
    calibrate: int = 0
    prior: str | None = None
    seed: int = 0
    actors: int | None = None
    threads_per_actor: int | None = None
    gpus_per_actor: float = 1.0
    in_flight: int | None = None
    device: str | None = None
    dtype: str | None = None
    address: str | None = None
    shared_fs: bool = False
    question_timeout_s: float = 600.0
    start_timeout_s: float = 300.0
    retry_failed: bool = True
    allow_failures: float = 0.0
    dry_run: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check what no other part of a run would refuse before it starts actors."""
        for name in ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be a finite number above 0; got {value:g}")
        check_gpus_per_actor(self.gpus_per_actor)
        if self.calibrate and self.prior is not None:
            raise InputError("--calibrate measures a prior and --prior gives one; leave one of them out")
        check_device_and_dtype(None, self.dtype)
        if self.device not in (None, "cpu", "cuda"):
            raise InputError(
                f"--device must be cpu or cuda; got {self.device!r} (Ray gives each actor its GPU, and "
                "CUDA_VISIBLE_DEVICES says which there are)"
            )

    def settings(self, task: Task, num_layers: int, dtype: str, prior: Prior | None) -> dict[str, Any]:
        """All that changes results, as plain JSON values: what run.json keeps and a later call must repeat.

        Args:
            task: the task.
            num_layers: of the model.
            dtype: of the weights.
            prior: the one given by `--prior`, if any.
        """
        search = self.search
        return {
            "simulations": search.simulations,
            "layer_budget": search.layer_budget,
            "seconds_budget": self.seconds_budget,
            "max_depth": search.depth_cap(num_layers),
            "max_edits": search.max_edits,
            "parallel_leaves": search.parallel_leaves,
            "stop": search.stop,
            "exploration": search.exploration,
            "widening_k": search.widening_k,
            "widening_alpha": search.widening_alpha,
            "length_weight": search.length_weight,
            "cost": self.cost,
            "calibrate": self.calibrate,
            "prior": prior.digest if prior else None,
            "seed": self.seed,
            "dtype": dtype,
            "task": task.describe(self.chat),
        }

    def others(self) -> dict[str, Any]:
        """What changes no result, as plain JSON values: told in run.json of the latest call."""
        return {name: getattr(self, name) for name in NO_SETTINGS}

    def with_budgets(self, settings: Mapping[str, Any]) -> GenerateOptions:
        """The same with the budgets of a run's settings."""
        search = replace(self.search, simulations=settings["simulations"], layer_budget=settings["layer_budget"])
        return replace(self, search=search, seconds_budget=settings["seconds_budget"])


def make_search_settings(**settings: Any) -> SearchSettings:
    """Search settings from the command line.

    Raises:
        InputError: naming the setting that is out of its bounds.
    """
    with flags_named():
        return SearchSettings(**settings)


@contextmanager
def flags_named() -> Iterator[None]:
    """Within the block a setting out of its bounds is told by its flag.

    Raises:
        InputError: for a ValueError that begins with the setting's name.
    """
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(f"--{name.replace('_', '-')} {rest}") from error


def check_gpus_per_actor(count: float) -> None:
    """A share of one GPU, or several whole ones.

    Raises:
        InputError: it is neither.
    """
    if not 0 < count < math.inf or (count > 1 and count % 1):
        raise InputError(f"--gpus-per-actor must be a whole number, or a share between 0 and 1; got {count:g}")


def parse_actors(text: str) -> int | None:
    """`auto` is None.

    Raises:
        InputError: neither `auto` nor a positive number.
    """
    if text == "auto":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise InputError(f"--actors must be auto or a positive number; got {text!r}")
