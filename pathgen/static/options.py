"""The options of `pathgen static`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Literal

from cluster.program.options import Quiet, option

from ..errors import InputError
from ..models.devices import DTYPES, Device, check_device_and_dtype

Target = Literal["accuracy", "divergence"]
DIVERGENCE_ONLY = ("text", "task", "chat", "depth")


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """The options of `pathgen static`; InputError for those that do not go together, and as `check_device_and_dtype`.

    Target divergence asks the questions of `text`, or those of the runs of `paths`.
    """

    out: Annotated[str, option("JSON file to write.")]
    paths: Annotated[tuple[str, ...], option("A run's folder; may repeat, all of one model.")] = ()
    target: Annotated[Target, option("Choose paths by accuracy, or by divergence from full depth (no labels).")] = (
        "accuracy"
    )
    text: Annotated[
        tuple[str, ...],
        option(
            "divergence: a question source in place of --paths, or a .jsonl of `infer generate --out`, whose answers "
            "are compared token by token; may repeat."
        ),
    ] = ()
    task: Annotated[str | None, option("divergence: how questions of --text are asked [default: arc].")] = None
    chat: Annotated[
        bool, option("divergence: ask questions of --text through the chat template.", "--chat/--no-chat")
    ] = False
    depth: Annotated[int | None, option("divergence: shallowest depth [default: 0.7 of the layers].", min=1)] = None
    limit: Annotated[
        int | None, option("At most N questions of each folder or source [default: all; divergence: 64].", min=1)
    ] = None
    candidates: Annotated[int, option("accuracy: paths to evaluate on the questions.", min=3)] = 48
    folds: Annotated[int, option("accuracy: folds of the cross-validation, at most.", min=3)] = 5
    bridges: Annotated[str | None, option("Folder of bridges; they run where a path skips.")] = None
    device: Device = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the run's, else by device].")] = None
    threads: Annotated[int | None, option("torch threads [default: the cores].", min=1)] = None
    seed: Annotated[int, option("Of folds or halves, and the order of questions.")] = 0
    model: Annotated[str | None, option("The model of --text; the runs' model, if it has moved.")] = None
    quiet: Quiet = False

    def bridges_flag(self, *, of_runs: bool) -> str:
        """` --bridges DIR` for a next command; of_runs: also where they are those that the runs of --paths keep."""
        folder = self.bridges or (self.paths[0] if of_runs and self.paths else None)
        return "" if folder is None else f" --bridges {shlex.quote(folder)}"

    def __post_init__(self) -> None:
        """Check what does not need the files."""
        check_device_and_dtype(self.device, self.dtype)
        if self.target == "accuracy":
            if given := [name for name in DIVERGENCE_ONLY if getattr(self, name)]:
                raise InputError(f"--{given[0]} goes with --target divergence")
            if not self.paths:
                raise InputError("--paths is missing: give the folder of a run of `pathgen generate`")
        elif bool(self.paths) == bool(self.text):
            raise InputError("--target divergence needs questions: give --paths, or --model and --text, not both")
        elif self.text and self.model is None:
            raise InputError("--model is missing: --text needs the model to ask")
        elif self.paths and (given := [name for name in ("task", "chat") if getattr(self, name)]):
            raise InputError(f"--{given[0]} goes with --text; the runs of --paths have theirs")
