"""Notices that a cluster's head is gone and says how to go on while there is time: Ray ends such drivers in silence."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from ..program.console import this_command
from .probe import listens

_EVERY_S = 1.0
_SILENT_S = 5.0
_CONNECT_S = 3.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def watching(address: str) -> Iterator[None]:
    """Within the block, a head that has not answered for some seconds is told once, with the command that goes on."""
    ended = threading.Event()

    def watch() -> None:
        heard_at = time.monotonic()
        while not ended.wait(_EVERY_S):
            with contextlib.suppress(OSError):
                listens(address, _CONNECT_S)
                heard_at = time.monotonic()
            if time.monotonic() - heard_at >= _SILENT_S:
                logger.warning(
                    "the head at %s does not answer. If it stays away, Ray ends this process within a minute; nothing "
                    "finished is lost, and the same command goes on, there or on another cluster: %s",
                    *(address, this_command()),
                )
                return

    thread = threading.Thread(target=watch, name="head-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
