"""What all commands share at the terminal: errors as one line with the promised exit code, JSON, config files."""

from __future__ import annotations

import functools
import json
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer
import yaml

from cluster import ClusterError

from .errors import PathgenError

P = ParamSpec("P")
R = TypeVar("R")


def tell(line: str) -> None:
    """One line to the person, on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout; NaN and Inf, which JSON lacks, become null."""
    print(json.dumps(_plain(value), allow_nan=False), flush=True)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors a person can meet into one line on stderr, JSON if asked for, and the exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
        try:
            return function(*args, **kwargs)
        except (PathgenError, ClusterError) as error:
            code = getattr(error, "exit_code", 1)
            tell(f"error: {error}")
            if kwargs.get("as_json"):
                print_json({"error": str(error), "exit_code": code})
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            tell("interrupted: finished work is kept; the same command goes on from here")
            raise typer.Exit(130) from None

    return run


def read_config(context: typer.Context, path: str | None) -> str | None:
    """Take defaults from a YAML file: option names (dashes or underscores) to values. Flags and environment win.

    Raises:
        typer.BadParameter: the file cannot be read, is no mapping, or names an option that does not exist.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{path} must hold `option: value` lines")
    names = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    unknown = [str(key) for key in content if str(key).replace("-", "_") not in names]
    if unknown:
        raise typer.BadParameter(f"{path}: unknown {', '.join(unknown)}; options are {', '.join(sorted(names))}")
    context.default_map = {
        **(context.default_map or {}),
        **{names[str(key).replace("-", "_")]: value for key, value in content.items()},
    }
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
