"""A value that each thread has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class Here(Generic[T]):
    """What is set within a block, in this thread (or asyncio task) alone; None outside of all blocks."""

    def __init__(self) -> None:
        self._value: ContextVar[T | None] = ContextVar("here", default=None)

    def get(self) -> T | None:
        """The value of the innermost block."""
        return self._value.get()

    @contextmanager
    def be(self, value: T) -> Iterator[None]:
        """Set the value within the block."""
        before = self._value.get()
        self._value.set(value)
        try:
            yield
        finally:
            self._value.set(before)
