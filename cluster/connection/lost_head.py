"""Warns when a cluster's head no longer answers. Ray would end the driver a minute later without a message."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from ..program.console import this_command
from .probe import listens

_EVERY_S, _CONNECT_S, _SILENT_S = 1.0, 3.0, 5.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def warning_of_lost_head(address: str) -> Iterator[None]:
    """Within the block, warn once when the head has not answered for some seconds, with the command that resumes."""
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
                    "finished is lost, and the same command resumes, there or on another cluster: %s",
                    *(address, this_command()),
                )
                return

    thread = threading.Thread(target=watch, name="lost-head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
