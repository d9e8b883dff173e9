"""`infer harness`: lm-evaluation-harness with the routed model."""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from typing import Annotated

import typer

from cluster.program.errors import CommandError
from cluster.program.options import option
from pathgen.errors import InputError, PathgenError, memory_told, one_line
from router.net.bias import Bias, check_bias


def harness(
    model: Annotated[str, option("Alias, hub id or local folder of the frozen model.")],
    router: Annotated[str, option("Folder or hub id of the router.")],
    bias: Bias = 0.0,
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
    check_bias(bias)
    wanted = list(arguments or [])
    if taken := [word for word in wanted if word.split("=")[0] in ("--model", "-M")]:
        raise InputError(f"{taken[0]} after the --: the model comes before, as infer harness --model M --router R -- …")
    if any(word.split("=")[0] == "--use_cache" for word in wanted):
        raise InputError("--use_cache: its answers are filed without the router's name; leave it out")

    from lm_eval.__main__ import cli_evaluate

    import infer.harness.model  # noqa: F401  the harness looks for no plugins: the model's name must be there before it runs
    from pathgen.models.devices import default_device

    routed = {"pretrained": model, "router": router, "bias": bias}
    sys.argv = ["lm-eval", "run", "--model", "routed", "--model_args", json.dumps(routed)]
    sys.argv += ["--device", default_device(), *wanted]  # the harness's own default is a GPU, there or not
    try:
        with memory_told("a smaller --batch_size"):
            cli_evaluate()
    except CommandError:
        raise
    except OSError as error:  # the hub is out of reach, or the disk is full
        raise PathgenError(f"lm-evaluation-harness: {_said(error)}") from error
    except Exception as error:  # a task's own code and its dataset raise whatever they like
        if _comes_from_us(error):
            raise
        raise InputError(f"lm-evaluation-harness: {_said(error)}") from error


def _said(error: Exception) -> str:
    """In one line; where it is no sentence, with the kind of error."""
    text = one_line(error).removesuffix(".")
    is_sentence = text and isinstance(error, (OSError, ValueError, AssertionError))
    return text if is_sentence else f"{type(error).__name__}: {text}"


def _comes_from_us(error: Exception) -> bool:
    """Whether our own code raised it, or called what did; the harness's own refusals of what it was asked are not."""
    _, *frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]  # the first is this file's
    packages = [str(frame.f_globals.get("__name__")).split(".")[0] for frame in frames]
    return bool({"infer", "router", "pathgen"} & set(packages)) and packages[-1] not in ("lm_eval", "datasets")
