"""What `infer bench` is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathgen.errors import InputError
from pathgen.models.devices import check_device_and_dtype

SYSTEMS = (
    "full",
    "router",
    "oracle",
    "static",
    "random",
    "shortgpt",
    "early_exit",
    "repeat_block",
    "skip_gate",
    "search",
    "shuffled",
)
"""Those that are always known; every router named on the command line is one more."""
ROUTER, GATES = "router", "skip_gate"
"""The systems that a router without a name, and gates that can only skip, are."""
NAMED_ROUTER = re.compile(r"([A-Za-z]\w*)=(.+)")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """The options of `infer bench`; its help tells each.

    Attributes:
        routers: system name to folder or hub id.
        systems: as asked for; empty for all there are.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    model: str
    task: str
    questions: str
    routers: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    systems: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    static: str | None = None
    batch_size: int = 8
    seed: int = 0
    out: str | None = None
    report: str | None = None
    device: str | None = None
    dtype: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
        known = self.known_systems
        if unknown := [name for name in self.systems if name not in known]:
            raise InputError(f"unknown system {unknown[0]!r}; systems are {', '.join(known)}")
        check_device_and_dtype(self.device, self.dtype)
        if self.report is not None and Path(self.report).is_dir():
            raise InputError(f"--report {self.report} is a folder; give a file, for example {self.report}/bench.html")

    @property
    def known_systems(self) -> tuple[str, ...]:
        """All names, in the order of reports."""
        return (*SYSTEMS, *(name for name in self.routers if name not in SYSTEMS))

    @property
    def wanted_systems(self) -> tuple[str, ...]:
        """Those to run, each once; `full` is always first, as all others are compared with it."""
        return tuple(dict.fromkeys(("full", *(self.systems or self.known_systems))))


def parse_routers(given: Sequence[str]) -> dict[str, str]:
    """Read `--router DIR` and `--router NAME=DIR`.

    Raises:
        InputError: two routers of one name, or a name that another system has.
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
