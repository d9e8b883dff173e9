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
from dataclasses import is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from .errors import UsageError

Body = TypeVar("Body", bound=Callable[..., None])


class option:
    """A flag of the command line.

    Args:
        help_text: one line.
        names: as typer has them; none: the field's name, with dashes.
        reads: the type on the command line, where `parse` makes the field's value of it; its default is then not shown.
        parse: makes that value.
        more: arguments of `typer.Option`.
    """

    def __init__(
        self, help_text: str, *names: str, reads: Any = str, parse: Callable[[Any], Any] | None = None, **more: Any
    ):
        self.names, self.reads, self.parse = names, reads, parse
        self._more = {"help": help_text, "show_envvar": False, **more}

    def info(self, field: str) -> Any:
        """What typer is given for the option of a field, with its environment variable LAYERPATHS_<FLAG>."""
        names = self.names or ("--" + field.replace("_", "-"),)
        variable = "LAYERPATHS_" + names[0].lstrip("-").split("/")[0].replace("-", "_").upper()
        return typer.Option(*names, envvar=variable, **self._more)


Quiet = Annotated[bool, option("No progress.")]


def parse_names(text: str) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def command(app: typer.Typer, name: str | None = None) -> Callable[[Body], Body]:
    """Register a function as a command; its parameters that are dataclasses are built of their flags.

    Args:
        app: the program.
        name: of the command; None: the function's.
    """

    def register(body: Body) -> Body:
        def run(**given: Any) -> None:
            _call(body, given)

        parameters: dict[str, inspect.Parameter] = {}
        for each in _parameters(body):
            first = parameters.setdefault(each.name, each)
            if first.default != each.default:
                parameters[each.name] = first.replace(default=None)
        run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        run.__doc__ = body.__doc__
        app.command(name or body.__name__)(run)
        return body

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


def _parameters(owner: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """What typer reads for a function or dataclass; a dataclass among its parameters has its own in its place."""
    hints = get_type_hints(owner, include_extras=True)
    for name, each in inspect.signature(owner).parameters.items():
        hint, default = hints[name], each.default
        if is_dataclass(hint):
            yield from _parameters(hint)  # type: ignore[arg-type]
        elif get_origin(hint) is Annotated:
            kind, info, *_ = get_args(hint)
            if isinstance(info, option):
                kind = info.reads if info.parse else kind
                shown = info.parse is None and isinstance(default, (str, int, float))
                default = default if shown or default is each.empty else None
                info = info.info(name)
            if get_origin(kind) is tuple:
                kind = list[get_args(kind)[0]]  # type: ignore[misc]
            yield inspect.Parameter(name, each.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
        elif hint is typer.Context:
            yield each.replace(kind=each.KEYWORD_ONLY, annotation=hint)


def _call(owner: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a function or dataclass (its `from_flags`, if it has one) with what was given; other defaults stand.

    Raises:
        UsageError: a value that a dataclass refuses.
    """
    values = {}
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if is_dataclass(hint):
            with flags_named():
                values[name] = _call(hint, given)  # type: ignore[arg-type]
        elif (hint is typer.Context or get_origin(hint) is Annotated) and given[name] is not None:
            values[name] = _value(hint, given[name])
    return getattr(owner, "from_flags", owner)(**values)


def _value(hint: Any, value: Any) -> Any:
    """A parameter's value of the command line's."""
    kind, info, *_ = get_args(hint) or (hint, None)
    if isinstance(info, option) and info.parse is not None:
        return info.parse(value)
    return tuple(value) if get_origin(kind) is tuple else value
