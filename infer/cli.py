"""`infer`: its commands. Heavy imports wait until a command needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.program.console import AsJson, Config, make_app, option, print_json, tell
from pathgen.errors import memory_told
from pathgen.models.devices import DTYPES, check_device_and_dtype

from .bench_command import bench
from .harness.command import harness
from .routed.prompts import BATCH_SIZE, MAX_NEW_TOKENS, check_prompts, read_prompts

if TYPE_CHECKING:
    from .routed.routed_model import Completion

PRINTED_BATCHES = 4
"""Batches whose prompts are sorted by length together; their answers are printed before the next ones run."""

app = make_app()
app.command()(bench)
app.command()(harness)


@app.callback()
def _infer() -> None:
    """Run a frozen language model along the layer paths that a router chooses by each prompt."""


@app.command()
def generate(
    model: Annotated[str, option("Alias, hub id or local folder of the frozen model.", "--model")],
    router: Annotated[str, option("Folder or hub id of the router.", "--router")],
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="Texts to go on from.")] = None,
    file: Annotated[
        str | None,
        option(
            "A .jsonl of objects with `prompt`, else one prompt a line; blank lines are skipped; - is standard input.",
            "--file",
        ),
    ] = None,
    max_new_tokens: Annotated[int, option("Of each answer.", "--max-new-tokens", min=1)] = MAX_NEW_TOKENS,
    batch_size: Annotated[int, option("Prompts that run together.", "--batch-size", min=1)] = BATCH_SIZE,
    bias: Annotated[
        float, option("Added to SKIP and taken from REPEAT logits: 0 is as trained, positive shallower.", "--bias")
    ] = 0.0,
    chat: Annotated[
        bool | None,
        option("Prompts through the chat template [default: as the router was trained].", "--chat/--no-chat"),
    ] = None,
    dtype: Annotated[
        str | None, option(f"{', '.join(DTYPES)} [default: float32 on CPU, bfloat16 on CUDA].", "--dtype")
    ] = None,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: what there is].", "--device")] = None,
    quiet: Annotated[bool, option("Answers only: no paths, no progress.", "--quiet")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Answer prompts, each along the path that the router decides on it."""
    from router.net.policy import check_bias

    check_bias(bias)
    check_device_and_dtype(device, dtype)
    texts = read_prompts(prompts or [], file)

    from cluster.program.progress import ProgressView
    from pathgen.engine.path_model import PathModel
    from pathgen.models.devices import default_device, default_dtype
    from pathgen.models.resolving import resolve_model

    from .routed.routed_model import RoutedModel, router_for

    folder = resolve_model(model)
    found = router_for(folder, router)
    chat = found.config.chat if chat is None else chat
    check_prompts(folder, texts, max_new_tokens, chat=chat)
    device = device or default_device()
    path_model = PathModel.from_pretrained(model, dtype=dtype or default_dtype(device), device=device)
    routed = RoutedModel(path_model, found, bias=bias)
    answers: list[Completion] = []
    with memory_told("a smaller --batch-size"), ProgressView("answering", len(texts), words="", quiet=quiet) as bar:
        for start in range(0, len(texts), PRINTED_BATCHES * batch_size):
            part = texts[start : start + PRINTED_BATCHES * batch_size]
            told = partial(lambda before, done: bar.show(before + done), start)
            done_now = routed.complete(part, max_new_tokens, batch_size, chat, on_done=told)
            answers += done_now
            if not as_json:
                with bar.aside():
                    _print_answers(done_now, quiet=quiet)
    if as_json:
        print_json({"outputs": [asdict(answer) for answer in answers]})


def _print_answers(answers: Sequence[Completion], *, quiet: bool) -> None:
    """Answers on stdout, what they cost on stderr."""
    from pathgen.paths.layer_path import LayerPath

    for answer in answers:
        print(answer.text, flush=True)
        if not quiet:
            layers = len(answer.path)
            tell(f"{LayerPath(answer.path)} depth {answer.depth} of {layers}, layers saved {layers - answer.depth}")


def main() -> None:
    """Entry point of the `infer` console script."""
    app()
