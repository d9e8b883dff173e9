"""The options of `infer bench`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cluster.program.options import Quiet, option, parse_names
from pathgen.errors import InputError
from pathgen.models.devices import DTYPES, Device, check_device_and_dtype
from pathgen.questions.answer_options import AnswerOptions
from pathgen.questions.loading import parse_columns

MEANINGS = {
    "full": "every layer once, as published",
    "router": "the path that a router decides on each prompt",
    "oracle": "each question's best searched path, chosen by its right answer: an upper bound",
    "static": "one path for all questions, chosen on others; the full path where no other is clearly better",
    "random": "the router's actions on random layers",
    "shortgpt": "the layers that change the states least, removed",
    "early_exit": "later layers skipped once the model's head is sure",
    "repeat_block": "a block in the middle run twice",
    "skip_gate": "gates: a factor per layer, trained on the task's own loss and rounded to skip or run",
    "search": "a search at test time, by the model's own confidence",
    "shuffled": "the router's paths, each given to another question: as good as the router if it reads nothing",
}
"""What each system is, in the words of the table's legend and of the report."""
SYSTEMS = tuple(MEANINGS)
"""Systems that are always known; each named router of the command line is one more."""
ROUTER, GATES = "router", "skip_gate"
"""The system names of a router without a name, and of gates that can only skip."""
BRIDGEABLE = ("static", "random", "shortgpt", "early_exit", "search")
"""Systems without a router that may run with the bridges of --bridges: the same help for every rival."""
BRIDGED = "+bridges"
"""Ends the name of such a system."""
NAMED_ROUTER = re.compile(r"([A-Za-z]\w*)=(.+)")


def parse_routers(given: Sequence[str]) -> dict[str, str]:
    """Read `--router DIR` and `--router NAME=DIR`.

    Raises:
        InputError: two routers have one name, or a router has the name of another system.
    """
    routers: dict[str, str] = {}
    for text in given:
        match = NAMED_ROUTER.fullmatch(text)
        name, folder = (match[1], match[2]) if match else (ROUTER, text)
        if name in routers:
            raise InputError(f"--router: two are called {name!r}; give them names, for example other={folder}")
        if name in SYSTEMS and name not in (ROUTER, GATES):
            raise InputError(f"--router: {name!r} is another system's name; give {folder} a name of its own")
        routers[name] = folder
    return routers


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """The options of `infer bench`.

    Raises:
        InputError: an option is wrong; the message has the given and the possible values.
    """

    model: Annotated[str, option("Alias, hub id, folder or GGUF file of the model.")] = "smollm2-135m"
    routers: Annotated[
        Mapping[str, str],
        option(
            "[NAME=]DIR of a router; may repeat. skip_gate=DIR names the gates.",
            "--router",
            reads=list[str],
            parse=parse_routers,
        ),
    ] = field(default_factory=dict)
    task: Annotated[str, option("arc, arc-letter or math.")] = "arc"
    questions: Annotated[str, option("Builtin, hub dataset or file.")] = "builtin:test"
    columns: Annotated[
        Mapping[str, str],
        option("FIELD=COLUMN,…, e.g. id=-,prompt=item.ask,choices=a+b (docs/questions.md).", parse=parse_columns),
    ] = field(default_factory=dict)
    answers: AnswerOptions = field(default_factory=AnswerOptions)
    limit: Annotated[int | None, option("Use only the first N questions.", min=1)] = None
    systems: Annotated[tuple[str, ...], option("Names, with commas between [default: all].", parse=parse_names)] = ()
    paths: Annotated[
        tuple[str, ...],
        option("Folder of `pathgen generate`; may repeat. Its other questions fit the systems."),
    ] = ()
    static: Annotated[str | None, option("F.json of `pathgen static` [default: fitted on --paths].")] = None
    bridges: Annotated[
        str | None, option("Folder of `pathgen bridge`; adds static+bridges, shortgpt+bridges, … to the systems.")
    ] = None
    batch_size: Annotated[int, option("Questions per batch.", min=1)] = 8
    seed: Annotated[int, option("For random paths and intervals.", min=0)] = 0
    out: Annotated[str | None, option("Folder of results; the same command resumes.")] = None
    report: Annotated[str | None, option("HTML file to write.")] = None
    device: Device = None
    dtype: Annotated[str | None, option(f"{', '.join(DTYPES)} [default: the paths'].")] = None
    quiet: Quiet = False

    def __post_init__(self) -> None:
        known = self.known_systems
        if unknown := [name for name in self.systems if name not in known]:
            raise InputError(f"unknown system {unknown[0]!r}; systems are {', '.join(known)}")
        check_device_and_dtype(self.device, self.dtype)
        if self.report is not None and Path(self.report).is_dir():
            raise InputError(f"--report {self.report} is a folder; give a file, for example {self.report}/bench.html")

    @property
    def known_systems(self) -> tuple[str, ...]:
        """All names, in the order of the report."""
        bridged = [name + BRIDGED for name in BRIDGEABLE] if self.bridges is not None else []
        return (*SYSTEMS, *(name for name in self.routers if name not in SYSTEMS), *bridged)

    @property
    def wanted_systems(self) -> tuple[str, ...]:
        """The systems to run, each once; `full` is always first, as all others are compared with it."""
        return tuple(dict.fromkeys(("full", *(self.systems or self.known_systems))))
