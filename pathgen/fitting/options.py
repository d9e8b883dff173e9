"""The options of `pathgen bridge`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cluster.program.options import Quiet, option

from ..errors import InputError
from ..models.devices import DTYPES, Device, check_device_and_dtype

FULL = "full"
DEFAULT_RANK = 64


def parse_rank(text: str) -> int | None:
    """A rank from its text; None for `full`."""
    if text == FULL:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--rank is a whole number from 1 on, or full; got {text!r}")
    return int(text)


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """The options of `pathgen bridge`.

    Raises:
        InputError: an option is out of bounds; the message names it.
    """

    out: Annotated[str, option("New folder of the bridges; the same command resumes an interrupted fit.")]
    model: Annotated[str, option("Alias, hub id, local folder or GGUF file.")] = "smollm2-135m"
    text: Annotated[
        tuple[str, ...],
        option(
            "Questions (as --questions of generate), a .txt, a .jsonl with `text`, one of `infer generate --out`, or "
            "self: sampled from the model. May repeat; equal shares [default: builtin and self]."
        ),
    ] = ()
    task: Annotated[str, option("How questions are asked: arc, arc-letter or math.")] = "arc"
    chat: Annotated[bool, option("Ask through the chat template.", "--chat/--no-chat")] = False
    tokens: Annotated[int, option("Tokens to fit on.", min=1)] = 50_000
    rank: Annotated[
        int | None, option(f"Rank of the maps, or full [default: {DEFAULT_RANK}].", reads=str, parse=parse_rank)
    ] = DEFAULT_RANK
    ridge: Annotated[float, option("Weight of the penalty, relative to the mean square of the inputs.")] = 1e-3
    along: Annotated[
        str | None, option("A path (. run, - skip), or F.json of `pathgen static`: fit its maps on its own states.")
    ] = None
    depth: Annotated[int | None, option("With --along F.json: the path of at most this depth.", min=1)] = None
    distill_steps: Annotated[
        int | None, option("With --along: steps of training its maps on divergence from full depth.", min=1)
    ] = None
    actors: Annotated[int, option("Ray actors that share the pass on this machine; 1: this process.", min=1)] = 1
    device: Device = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: float32 on CPU, bfloat16 on CUDA].")] = None
    threads: Annotated[int | None, option("torch threads, of each actor too [default: the cores / actors].", min=1)] = (
        None
    )
    seed: Annotated[int, option("Of the order of questions and of sampled text.")] = 0
    quiet: Quiet = False

    def __post_init__(self) -> None:
        """Check the fields."""
        check_device_and_dtype(self.device, self.dtype)
        if not 0 <= self.ridge < 1:
            raise InputError(f"--ridge must lie between 0 and 1; got {self.ridge:g}")
        if self.depth is not None and self.along is None:
            raise InputError("--depth chooses a path of --along F.json; give both")
        if self.distill_steps is not None and self.along is None:
            raise InputError("--distill-steps trains the maps of one path; give it with --along")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of text."""
        return self.text or ("builtin", "self")
