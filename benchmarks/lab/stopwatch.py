"""What some functions of this process take, told apart by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class Stopwatch:
    """Wall and CPU seconds of this process inside some functions, by name."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what the block takes."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu

    def around(self, owner: Any, name: str) -> Any:
        """A patch that measures each call of a function."""
        original = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            with self.measure(name):
                return original(*arguments, **named)

        return mock.patch.object(owner, name, measured)
