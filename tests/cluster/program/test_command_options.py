from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from cluster.program.console import AsJson, Config, make_app, print_json
from cluster.program.options import Quiet, command, option, parse_names


@dataclass(frozen=True)
class Pace:
    steps: Annotated[int, option("Steps.", min=1)] = 25
    rate: Annotated[float, option("Rate.")] = 0.5
    quiet: Quiet = False

    def __post_init__(self):
        if self.rate <= 0:
            raise ValueError(f"rate must be above 0; got {self.rate:g}")


@dataclass(frozen=True)
class Rest:
    steps: Annotated[int, option("Steps of rest.")] = 3
    rate: float = 2.0
    shape: Annotated[Literal["long", "short"], option("Shape.", "--rest-shape")] = "long"
    hours: Annotated[int, option("Hours.")] = 8

    @classmethod
    def from_flags(cls, shape, hours, steps=3):
        return cls(steps, shape=shape, hours=hours if shape == "long" else 1)


@dataclass(frozen=True)
class Walk:
    places: Annotated[tuple[str, ...], typer.Argument(metavar="PLACE")]
    out: Annotated[str, option("Where to.", "--out")]
    names: Annotated[tuple[str, ...], option("Who.", parse=parse_names)] = ("all",)
    dogs: Annotated[int | None, option("Dogs; 0: none.", reads=int, parse=lambda dogs: dogs or None)] = 5
    tags: Annotated[tuple[str, ...], option("Tags.")] = ()
    pace: Pace = field(default_factory=Pace)
    rest: Rest = field(default_factory=Rest)
    by_foot: Annotated[bool, option("Take the bus.", "--by-bus", reads=bool, parse=lambda bus: not bus)] = True
    quiet: Quiet = False


@pytest.fixture
def walk():
    """Calls the command, and gives its options and the answer."""
    app, seen = make_app("walker", "A program."), []

    @command(app)
    def walk(walk: Walk, config: Config = None, as_json: AsJson = False) -> None:
        """Go."""
        seen.append(walk)
        if as_json:
            print_json({"out": walk.out})

    def call(*arguments, **env):
        seen.clear()
        answer = CliRunner().invoke(app, ["walk", *arguments], env=env)
        return (seen or [None])[0], answer

    return call


def test_defaults_are_the_dataclasses_own(walk):
    options, answer = walk("here", "--out", "x", "--json")
    assert options == Walk(("here",), "x")
    assert answer.stdout == '{"out": "x"}\n'


def test_fields_of_nested_dataclasses_are_flags_and_those_of_one_name_share_one(walk):
    options, _ = walk("a", "b", "--out", "x", "--steps", "7", "--quiet", "--rate", "0.1", "--tags", "t", "--tags", "u")
    assert options == Walk(("a", "b"), "x", tags=("t", "u"), pace=Pace(7, 0.1, quiet=True), rest=Rest(7), quiet=True)


def test_a_field_without_annotation_is_no_flag_even_where_another_of_its_name_is(walk):
    options, _ = walk("a", "--out", "x", "--rate", "0.1")
    assert options.rest.rate == 2.0


def test_values_are_parsed_also_to_none(walk):
    options, _ = walk("a", "--out", "x", "--names", "p, q,", "--dogs", "0", "--by-bus")
    assert (options.names, options.dogs, options.by_foot) == (("p", "q"), None, False)


def test_a_dataclass_may_say_how_flags_become_it(walk):
    options, _ = walk("a", "--out", "x", "--rest-shape", "short")
    assert options.rest == Rest(shape="short", hours=1)


def test_environment_and_config_fill_them_by_the_flag(walk, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("steps: 9\nrest-shape: short\nby_bus: true\ntags: [t]\n")
    options, _ = walk("a", "--out", "x", "--config", str(file), LAYERPATHS_STEPS="4", LAYERPATHS_REST_SHAPE="long")
    assert (options.pace.steps, options.rest.steps, options.rest.shape) == (4, 4, "long")
    assert (options.by_foot, options.tags) == (False, ("t",))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rate", "0"], "error: --rate must be above 0; got 0"),
        (["--steps", "0"], "'--steps'"),
        (["--hours", "many"], "'--hours'"),
        (["--shape", "long"], "--shape"),
    ],
)
def test_what_is_refused_is_named_by_its_flag(walk, arguments, says):
    options, answer = walk("a", "--out", "x", *arguments)
    assert (options, answer.exit_code) == (None, 2)
    assert says in answer.stderr


def test_help_has_each_flag_once_and_no_default_where_they_differ(walk):
    _, answer = walk("--help")
    assert answer.stdout.count("--steps") == answer.stdout.count("--quiet") == 1
    (line,) = [line for line in answer.stdout.splitlines() if "--steps" in line]
    assert "Steps." in line
    assert "default" not in line
    assert "[default: 0.5]" in answer.stdout
