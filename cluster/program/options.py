"""Options of commands, each defined once: a dataclass field with `option` in its annotation is a flag of the command.

    @dataclass(frozen=True)
    class Greeting:
        name: Annotated[str, option("Whom to greet.")]
        times: Annotated[int, option("How often.", min=1)] = 1

    @command(app)
    def greet(greeting: Greeting, as_json: AsJson = False) -> None: ...

gives `greet --name NAME --times N --json`, the variables LAYERPATHS_NAME and LAYERPATHS_TIMES, and the keys of
`--config`. A field that is a dataclass adds its own flags; a field without `option` is not on the command line. Fields
with the same name, in several dataclasses, share one flag.
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
        names: flags, as for `typer.Option`; by default the field's name, with dashes.
        parse: converts the value of the command line, of type `reads`, to the field's value; help shows no default.
        more: arguments of `typer.Option`.
    """

    def __init__(
        self, help_text: str, *names: str, reads: Any = str, parse: Callable[[Any], Any] | None = None, **more: Any
    ):
        self.names, self.reads, self.parse = names, reads, parse
        self._more = {"help": help_text, "show_envvar": False, **more}

    def info(self, field: str) -> Any:
        """The `typer.Option` of a field, with its environment variable LAYERPATHS_<FLAG>."""
        names = self.names or ("--" + field.replace("_", "-"),)
        variable = "LAYERPATHS_" + names[0].lstrip("-").split("/")[0].replace("-", "_").upper()
        return typer.Option(*names, envvar=variable, **self._more)


Quiet = Annotated[bool, option("No progress.")]


def parse_names(text: str) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def command(app: typer.Typer, name: str | None = None) -> Callable[[Body], Body]:
    """Register a function as a command of a program; its parameters that are dataclasses are built from their flags."""

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
    """Within the block, a ValueError that begins with a setting's name becomes a UsageError that names its flag."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from error


def _parameters(owner: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """The parameters of a function or dataclass, as typer needs them; dataclasses among them are expanded."""
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
    """Call a function or dataclass (its `from_flags`, if it has one) with the given values, or its defaults."""
    values = {}
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if is_dataclass(hint):
            with flags_named():
                values[name] = _call(hint, given)  # type: ignore[arg-type]
        elif (hint is typer.Context or get_origin(hint) is Annotated) and given[name] is not None:
            kind, info, *_ = get_args(hint) or (hint, None)
            parse = info.parse if isinstance(info, option) else None
            parse = parse or (tuple if get_origin(kind) is tuple else None)
            values[name] = parse(given[name]) if parse else given[name]
    return getattr(owner, "from_flags", owner)(**values)
