"""What all commands share: errors in one line with their exit code, JSON on stdout, and config files."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from typer.core import TyperGroup
from typer.exceptions import TyperException

from .errors import CommandError, Interrupted, UsageError
from .json_codec import encoded
from .options import option

QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # for transformers too
    "HF_HUB_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment of every command, so that stderr holds our own lines only. The user's own values stay."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def tell(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr, flush=True)


def this_command() -> str:
    """The command line of this process, ready to copy."""
    program = Path(sys.argv[0])
    return shlex.join([program.parent.name if program.stem == "__main__" else program.name, *sys.argv[1:]])


def print_json(value: object) -> None:
    """Print one JSON object on stdout: a dataclass or a dict, as `encoded` converts it."""
    print(json.dumps(encoded(value), allow_nan=False), flush=True)


class ListedCommands(TyperGroup):
    """Commands whose help lists what each one does in whole sentences, wrapped; typer's own list is cut off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, " ".join((command.help or "").split())) for name, command in commands.items() if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Commands(ListedCommands):
    """A program's commands: an error is one line on stderr, an object on stdout with `--json`, and an exit code."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        """Run the command of the arguments, and end the process."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        for name, value in QUIET_LIBRARIES.items():
            os.environ.setdefault(name, value)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # for charts on an ASCII terminal
        as_json = "--json" in itertools.takewhile(lambda argument: argument != "--", arguments)
        text = None
        try:
            code = super().main(arguments, *more, **{**extra, "standalone_mode": False})
        except (TyperException, CommandError) as error:
            code, text = getattr(error, "exit_code", 1), str(error)
            if isinstance(error, TyperException):  # several lines, with a full stop
                text = " ".join(error.format_message().split()).removesuffix(".").replace(": Value error, ", ": ")
            tell(f"error: {text}")
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone
            code = 1
        except Exception as error:  # a bug: the full traceback on stderr, one object on stdout
            traceback.print_exc()
            code, text = 1, f"{type(error).__name__}: {error}"
        if text is not None and as_json:
            print_json({"error": text, "exit_code": code})
        sys.exit(code or 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of the arguments.

        Raises:
            UsageError: there is no command of this name; the message lists the commands.
        """
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsageError(f"No such command {args[0]!r}: commands are {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; SIGTERM ends it like Ctrl-C, unless the command sets its own handler."""
        caught = []

        def on_term(number: int, frame: object) -> None:
            caught.append(number)
            raise KeyboardInterrupt

        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, on_term) if in_main else None
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted", *caught[:1]) from None
        except Interrupted as error:  # the command's own message; to it, the signal was Ctrl-C
            if caught:
                error.exit_code = 128 + caught[0]
            raise
        finally:
            if in_main:
                signal.signal(signal.SIGTERM, before)


def make_app(program: str, about: str) -> typer.Typer:
    """Make a program without commands, with `--version`; `about` stands above its commands in the help."""
    plain: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
    app = typer.Typer(name=program, cls=Commands, context_settings={"max_content_width": 100}, **plain)
    app.callback(help=about)(_program)
    return app


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(context.command.name, version("layerpaths"))
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def read_config(context: typer.Context, path: str | None) -> str | None:
    """Read defaults from a YAML file: option names (dashes or underscores) to values. Flags and environment win.

    Raises:
        typer.BadParameter: the file cannot be read, is no mapping, has an unknown option, or a value of a wrong kind.
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
        raise typer.BadParameter(f"{path} must hold lines like `simulations: 100`")
    known = {
        option.lstrip("-").replace("-", "_"): parameter
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("-") and parameter.name not in ("config", "help", "as_json")
    }
    if unknown := [str(key) for key in content if str(key).replace("-", "_") not in known]:
        raise typer.BadParameter(f"{path}: unknown {', '.join(unknown)}; options are {', '.join(sorted(known))}")
    defaults = dict(context.default_map or {})
    for key, value in content.items():
        name = str(key).replace("-", "_")
        _check_kind(known[name], value, f"{path}: {name}")
        defaults[known[name].name] = value
    context.default_map = defaults
    return path


Config = Annotated[str | None, option("YAML file of these options.", "--config", is_eager=True, callback=read_config)]


def _check_kind(parameter: Any, value: Any, where: str) -> None:
    """Refuse a value that would be silently converted: `no` for a name, `true` for 1, a list for a text."""
    if parameter.is_flag and not isinstance(value, bool):
        raise typer.BadParameter(f"{where} is true or false; got {value!r}")
    if not parameter.is_flag and isinstance(value, bool):
        raise typer.BadParameter(f"{where} is no yes or no; put the value in quotes if it is that word")
    if parameter.multiple != isinstance(value, list) or isinstance(value, dict):
        raise typer.BadParameter(f"{where} is {'a list' if parameter.multiple else 'one value'}; got {value!r}")
