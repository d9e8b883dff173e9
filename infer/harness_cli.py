"""`infer harness`: lm-evaluation-harness with the routed model."""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from typing import Annotated

import typer

from cluster.console import option
from pathgen.errors import InputError, PathgenError


def harness(
    model: Annotated[str, option("Alias, hub id or local folder of the frozen model.", "--model")],
    router: Annotated[str, option("Folder or hub id of the router.", "--router")],
    bias: Annotated[
        float | None, option("Added to SKIP and taken from REPEAT logits; positive is shallower.", "--bias")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- ARGS", help="Those of `lm-eval run`, as --tasks arc_easy --batch_size 8.", show_default=False
        ),
    ] = None,
) -> None:
    """Run lm-evaluation-harness on the routed model."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("`infer harness` needs lm-evaluation-harness: pip install 'layerpaths[harness]'")
    wanted = list(arguments or [])
    if taken := [word for word in wanted if word.split("=")[0] in ("--model", "-M")]:
        raise InputError(f"{taken[0]} after the --: the model comes before, as infer harness --model M --router R -- …")
    if any(word.split("=")[0] == "--use_cache" for word in wanted):
        raise InputError("--use_cache: its answers are filed without the router's name; leave it out")

    from lm_eval.__main__ import cli_evaluate

    import infer.harness  # noqa: F401  the harness looks for no plugins: the model's name must be there before it runs
    from pathgen.placement import default_device

    routed = {"pretrained": model, "router": router, **({} if bias is None else {"bias": bias})}
    sys.argv = ["lm-eval", "run", "--model", "routed", "--model_args", json.dumps(routed)]
    sys.argv += ["--device", default_device(), *wanted]  # the harness's own default is a GPU, there or not
    try:
        cli_evaluate()
    except OSError as error:  # the hub is out of reach, or the disk is full
        raise PathgenError(f"lm-evaluation-harness: {_one_line(error)}") from error
    except (ValueError, AssertionError) as error:
        if not _comes_from_harness(error):
            raise
        raise InputError(f"lm-evaluation-harness: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).removesuffix(".")


def _comes_from_harness(error: Exception) -> bool:
    """Whether the harness itself refuses what it was asked, as it does by ValueError and by assertion."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals["__name__"]).split(".")[0] == "lm_eval"
