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
    router: Annotated[str, option("Folder or hub id of the router.")],
    model: Annotated[
        str | None, option("Alias, hub id, local folder or GGUF file of the frozen model [default: the router's].")
    ] = None,
    bias: Bias = 0.0,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- ARGS", help="For `lm-eval run`, as --tasks arc_easy --batch_size 8.", show_default=False
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
        raise InputError("--use_cache: this cache does not tell routers apart; leave it out")

    from lm_eval.__main__ import cli_evaluate

    import infer.harness.model  # noqa: F401  registers the model; the harness has no plugins
    from pathgen.models.devices import default_device

    from ..routed.given_router import router_and_base

    routed = {"pretrained": model or router_and_base(router, None)[1], "router": router, "bias": bias}
    sys.argv = ["lm-eval", "run", "--model", "routed", "--model_args", json.dumps(routed)]
    sys.argv += ["--device", default_device(), *wanted]  # the harness's own default is always a GPU
    try:
        with memory_told("a smaller --batch_size"):
            cli_evaluate()
    except CommandError:
        raise
    except OSError as error:  # for example, the hub cannot be reached or the disk is full
        raise PathgenError(f"lm-evaluation-harness: {_said(error)}") from error
    except Exception as error:  # a task's code and its dataset can raise anything
        if _comes_from_us(error):
            raise
        raise InputError(f"lm-evaluation-harness: {_said(error)}") from error


def _said(error: Exception) -> str:
    """The error in one line; with its type if the text is not a sentence."""
    text = one_line(error).removesuffix(".")
    is_sentence = text and isinstance(error, (OSError, ValueError, AssertionError))
    return text if is_sentence else f"{type(error).__name__}: {text}"


def _comes_from_us(error: Exception) -> bool:
    """Whether our code, or a library called by it, raised the error. Errors of the harness itself are not ours."""
    _, *frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]  # the first is of this file
    packages = [str(frame.f_globals.get("__name__")).split(".")[0] for frame in frames]
    return bool({"infer", "router", "pathgen"} & set(packages)) and packages[-1] not in ("lm_eval", "datasets")
