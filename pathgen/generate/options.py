"""The options of `pathgen generate`, and which of them make two runs the same run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from operator import not_
from typing import TYPE_CHECKING, Annotated, Any

from cluster.program.options import option

from ..actors.options import ActorOptions
from ..errors import InputError
from ..paths.cost import CostName
from ..questions.answer_options import AnswerOptions
from ..questions.loading import parse_columns
from ..search.settings import SearchSettings

if TYPE_CHECKING:
    from ..questions.tasks import Task

PLACEMENT = ("actors", "threads_per_actor", "gpus_per_actor", "in_flight", "device", "address", "shared_fs")
TIMEOUTS = ("question_timeout_s", "start_timeout_s")


@dataclass(frozen=True, slots=True)
class GenerateOptions(ActorOptions):
    """The options of `pathgen generate`; its help explains each.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    out: Annotated[str, option("Folder or URL of the run; the same command again resumes.")]
    model: Annotated[str, option("Alias, hub id, local folder or GGUF file.")] = "smollm2-135m"
    task: Annotated[str, option("arc, arc-letter or math.")] = "arc"
    questions: Annotated[str, option("builtin[:test], builtin-math, a file, or owner/name[:config][:split].")] = (
        "builtin"
    )
    limit: Annotated[int | None, option("Only the first N questions.", min=1)] = None
    columns: Annotated[
        Mapping[str, str],
        option("FIELD=COLUMN,…, e.g. id=-,prompt=item.ask,choices=a+b (docs/questions.md).", parse=parse_columns),
    ] = field(default_factory=dict)
    answers: AnswerOptions = field(default_factory=AnswerOptions)
    bridges: Annotated[str | None, option("Folder of `pathgen bridge`: its maps run where a path skips.")] = None
    chat: Annotated[bool, option("Ask through the chat template.", "--chat/--no-chat")] = False
    search: SearchSettings = field(default_factory=SearchSettings)
    seconds_budget: Annotated[float | None, option("Seconds per question.")] = None
    cost: Annotated[CostName, option("Unit of a path's cost.")] = "layers"
    seed: Annotated[int, option("Seed of all searches.")] = 0
    question_timeout_s: Annotated[float, option("Seconds without progress after which an actor is replaced.")] = 600.0
    retry_failed: Annotated[
        bool, option("Do not search failed questions again.", "--no-retry-failed", reads=bool, parse=not_)
    ] = True
    allow_failures: Annotated[
        float, option("Share of failed questions that still counts as success.", min=0, max=1)
    ] = 0.0
    dry_run: Annotated[bool, option("Check everything, start nothing.")] = False

    def __post_init__(self) -> None:
        ActorOptions.__post_init__(self)
        for name in ("seconds_budget", *TIMEOUTS):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be a finite number above 0; got {value:g}")
        if self.device not in (None, "cpu", "cuda"):
            raise InputError(
                f"--device must be cpu or cuda; got {self.device!r} (Ray gives each actor its GPU, and "
                "CUDA_VISIBLE_DEVICES says which there are)"
            )

    def settings(self, task: Task, num_layers: int, dtype: str, bridges: str | None = None) -> dict[str, Any]:
        """All that changes results, as plain JSON values. run.json keeps it, and a later call must repeat it.

        `num_layers` and `dtype` are of the model, `bridges` is the digest of the bridges, if there are any.
        """
        return {
            **asdict(self.search),
            "max_depth": self.search.depth_cap(num_layers),
            "seconds_budget": self.seconds_budget,
            "cost": self.cost,
            "seed": self.seed,
            "dtype": dtype,
            "task": task.describe(self.chat),
            **({} if bridges is None else {"bridges": bridges}),
        }

    def others(self) -> dict[str, Any]:
        """Options that change no result, as plain JSON values. run.json keeps those of the latest call."""
        names = (*PLACEMENT, *TIMEOUTS, "bridges", "limit", "columns", "retry_failed", "allow_failures")
        return {name: getattr(self, name) for name in names}

    def with_budgets(self, settings: Mapping[str, Any]) -> GenerateOptions:
        """The same options with the budgets of a run's settings."""
        search = replace(self.search, simulations=settings["simulations"], layer_budget=settings["layer_budget"])
        return replace(self, search=search, seconds_budget=settings["seconds_budget"])
