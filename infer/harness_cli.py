"""`infer harness`: lm-evaluation-harness with the routed model."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Annotated

import typer

from pathgen.console import option
from pathgen.errors import InputError


def harness(
    model: Annotated[str, option("Alias, hub id or local folder of the frozen model.", "--model")],
    router: Annotated[str, option("Folder or hub id of the router.", "--router")],
    bias: Annotated[
        float | None, option("Added to SKIP and taken from REPEAT logits; positive is shallower.", "--bias")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGS", help="Those of `lm-eval run`, as --tasks arc_easy --batch_size 8."),
    ] = None,
) -> None:
    """Run lm-evaluation-harness on the routed model."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("`infer harness` needs lm-evaluation-harness: pip install 'layerpaths[harness]'")
    wanted = list(arguments or [])
    if taken := [word for word in wanted if word.split("=")[0] in ("--model", "-M")]:
        raise InputError(f"{taken[0]} comes before the --, as `infer harness --model M --router R -- …`")

    from lm_eval.__main__ import cli_evaluate

    import infer.harness  # noqa: F401  the harness looks for no plugins: the model's name must be there before it runs

    routed = {"pretrained": model, "router": router, **({} if bias is None else {"bias": bias})}
    sys.argv = ["lm-eval", "run", "--model", "routed", "--model_args", json.dumps(routed), *wanted]
    cli_evaluate()
