"""The options of `infer generate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cluster.program.options import option
from pathgen.errors import InputError
from pathgen.models.devices import DTYPES, Device, check_device_and_dtype
from router.net.bias import Bias, check_bias

from .prompts import BATCH_SIZE, MAX_NEW_TOKENS


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The options of `infer generate`.

    Raises:
        InputError: an option is wrong; the message has the given and the possible values.
    """

    router: Annotated[str | None, option("Folder or hub id of the router; without one, all layers run once.")] = None
    model: Annotated[
        str | None, option("Alias, hub id, local folder or GGUF file of the frozen model [default: the router's].")
    ] = None
    prompts: Annotated[tuple[str, ...], typer.Argument(metavar="PROMPT", help="Texts to continue.")] = ()
    file: Annotated[
        str | None,
        option(
            "A .jsonl or .json of objects with `prompt`, a .json list of texts, else one prompt a line; blank lines "
            "are skipped; - is standard input."
        ),
    ] = None
    out: Annotated[
        str | None,
        option(
            "A .jsonl to keep prompts and answers in, and not to print them: text for `pathgen bridge` and `pathgen "
            "static`; the same command resumes."
        ),
    ] = None
    max_new_tokens: Annotated[int, option("Longest answer, in tokens.", min=1)] = MAX_NEW_TOKENS
    batch_size: Annotated[int, option("Prompts per batch.", min=1)] = BATCH_SIZE
    bridges: Annotated[
        str | None, option("Folder of `pathgen bridge`, to run where the router skips [default: the router's own].")
    ] = None
    bias: Bias = 0.0
    chat: Annotated[
        bool | None,
        option(
            "Use the chat template [default: as the router was trained; with one path for all, if the model is made "
            "for chats].",
            "--chat/--no-chat",
        ),
    ] = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: float32 on CPU, bfloat16 on CUDA].")] = None
    device: Device = None
    quiet: Annotated[bool, option("Print answers only: no paths, no progress.")] = False

    def __post_init__(self) -> None:
        if self.router is None and self.model is None:
            raise InputError("give --router R, or --model M for a model with all of its layers")
        if self.router is None and (self.bridges is not None or self.bias):
            raise InputError("--bridges run where a router skips, and --bias moves its choice: give --router too")
        if self.out is not None and not self.out.endswith(".jsonl"):
            raise InputError(f"--out {self.out}: answers are kept as JSON lines, in a file that ends in .jsonl")
        check_bias(self.bias)
        check_device_and_dtype(self.device, self.dtype)
