"""Options of commands, each stated once: a dataclass field, annotated by its help, is a flag of the command.

    @dataclass(frozen=True)
    class Greeting:
        name: Annotated[str, option("Whom to greet.")]
        times: Annotated[int, option("How often.", min=1)] = 1

    @command(app)
    def greet(greeting: Greeting, as_json: AsJson = False) -> None: ...

gives `greet --name NAME --times N --json`, the variables LAYERPATHS_NAME and LAYERPATHS_TIMES, and the keys of
`--config`. Fields that are dataclasses add their own flags; fields without an annotation are not on the command line.
Fields of one name, in several of them, share one flag.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ParameterInfo

from .errors import UsageError


@dataclass(frozen=True)
class Option:
    """A flag of the command line.

    Attributes:
        help: one line.
        names: as typer has them; empty: the field's name, with dashes.
        parse: makes the field's value of the command line's, which is then of the type `reads`.
        more: arguments of `typer.Option`.
    """

    help: str
    names: tuple[str, ...]
    reads: Any
    parse: Callable[[Any], Any] | None
    more: Mapping[str, Any]


def option(
    help_text: str, *names: str, reads: Any = str, parse: Callable[[Any], Any] | None = None, **more: Any
) -> Option:
    """An option; see `Option`."""
    return Option(help_text, names, reads, parse, more)


def parse_names(text: str) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


Quiet = Annotated[bool, option("No progress.")]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command: parameters that are dataclasses are built of their flags.

    Args:
        app: the program.
        name: of the command; None: the function's.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        parameters: dict[str, inspect.Parameter] = {}
        hints = get_type_hints(function, include_extras=True)
        for each in inspect.signature(function).parameters.values():
            if is_dataclass(hints[each.name]):
                _add_flags(hints[each.name], parameters)
            else:
                _add(each.name, hints[each.name], each.default, parameters)

        def run(**given: Any) -> None:
            values = {
                key: _build(hint, given) if is_dataclass(hint) else given[key]
                for key, hint in hints.items()
                if key != "return"
            }
            function(**values)

        run.__doc__, run.__name__ = function.__doc__, function.__name__
        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        app.command(name)(run)
        return function

    return register


@contextmanager
def flags_named() -> Iterator[None]:
    """Within the block a setting out of its bounds is an error that names its flag.

    Raises:
        UsageError: for a ValueError that begins with the setting's name.
    """
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from error


def _add_flags(group: Any, parameters: dict[str, inspect.Parameter]) -> None:
    """Add the parameters of a dataclass, in the order of its constructor's."""
    hints = get_type_hints(group, include_extras=True)
    for each in sorted(fields(group), key=lambda each: bool(each.kw_only)):
        hint = hints[each.name]
        if is_dataclass(hint):
            _add_flags(hint, parameters)
        elif get_origin(hint) is Annotated:
            is_required = each.default is MISSING and each.default_factory is MISSING
            default = inspect.Parameter.empty if is_required else None if each.default is MISSING else each.default
            _add(each.name, hint, default, parameters)


def _add(name: str, hint: Any, default: Any, parameters: dict[str, inspect.Parameter]) -> None:
    """Add one parameter. A flag that stands in several dataclasses is one, and shows no default if theirs differ."""
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    info = next((extra for extra in extras if isinstance(extra, (Option, ParameterInfo))), None)
    if isinstance(info, Option):
        if info.parse is not None:
            kind, default = info.reads, default if default is inspect.Parameter.empty else None
        names = info.names or ("--" + name.replace("_", "-"),)
        variable = "LAYERPATHS_" + names[0].lstrip("-").split("/")[0].replace("-", "_").upper()
        info = typer.Option(*names, help=info.help, envvar=variable, show_envvar=False, **info.more)
    if get_origin(kind) is tuple:  # of any length
        kind, default = list[get_args(kind)[0]], default or None  # type: ignore[misc]
    if name in parameters and parameters[name].default != default:
        default = None
    if name in parameters:
        info = get_args(parameters[name].annotation)[1]
    if default is None:
        kind |= None
    annotation = Annotated[kind, info] if info else kind
    parameters[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _build(group: Any, given: Mapping[str, Any]) -> Any:
    """A dataclass of the options given; `from_flags` builds it where it has one.

    Raises:
        UsageError: a value that it refuses.
    """
    hints = get_type_hints(group, include_extras=True)
    values = {}
    for each in fields(group):
        hint = hints[each.name]
        if is_dataclass(hint):
            values[each.name] = _build(hint, given)
        elif get_origin(hint) is Annotated and given[each.name] is not None:  # else the dataclass's default stands
            values[each.name] = _read(hint, given[each.name])
    with flags_named():
        build = getattr(group, "from_flags", group)
        return build(**values)


def _read(hint: Any, value: Any) -> Any:
    """A field's value of the command line's."""
    kind, *extras = get_args(hint)
    parse = next((extra.parse for extra in extras if isinstance(extra, Option)), None)
    if parse is not None:
        return parse(value)
    return tuple(value) if get_origin(kind) is tuple else value
