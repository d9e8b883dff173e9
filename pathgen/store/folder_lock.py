"""The lease of a run's folder: only one run at a time writes there."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil
from filelock import FileLock
from fsspec import AbstractFileSystem

from cluster.program.json_codec import from_json
from cluster.program.processes import same_process

from ..errors import PathgenError
from .files import TEMPORARY_PREFIX, create_exclusive, is_local, put, read_file, remove_file

LEASE_NAME = ".lease.json"
_LAST_BEAT_S = 1.0
"""How long an ending run waits for its last heartbeat: an object store may take minutes to answer."""


class LeaseLost(PathgenError):
    """This run no longer holds its folder: what it was about to commit must be discarded."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        token: unique to the run.
        boot_id: identifies the current boot of the host.
        start_s: start time of the process, in seconds since the epoch.
    """

    OPEN_ENDED = True

    token: str
    host: str
    boot_id: str
    pid: int
    start_s: float

    @classmethod
    def this_process(cls) -> Holder:
        """This process, with a new token."""
        return cls(uuid.uuid4().hex, socket.gethostname(), _boot_id(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, content: bytes | None) -> Holder | None:
        """The holder in a lease file; None if the file is missing or half-written."""
        with suppress(ValueError):
            return from_json(cls, content or b"")
        return None

    def is_dead_here(self) -> bool:
        """Whether it was a process of this host's current boot and has ended; False if that is unknown."""
        if (self.host, self.boot_id) != (socket.gethostname(), _boot_id()):
            return False
        return same_process(self.pid, self.start_s) is None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class RunLease:
    """Holds a run's folder within the context, with a heartbeat from its own thread.

    The lease of a dead process on this host is taken over at once, any other after `expiry_s` without a heartbeat.
    That time is measured by watching the file with this machine's clock, so that no two clocks are compared.

    Args:
        fs: file system of the run.
        out: the run's folder, which exists.
        on_wait: called with one line that says why the start is delayed.
        on_lost: called with one line, in the heartbeat's thread, when another run has taken the folder over.
        heartbeat_s: seconds between heartbeats.
        expiry_s: seconds without a heartbeat after which another run may take the lease over.
    """

    def __init__(
        self,
        fs: AbstractFileSystem,
        out: str,
        *,
        on_wait: Callable[[str], object],
        on_lost: Callable[[str], object] = lambda line: None,
        heartbeat_s: float = 5.0,
        expiry_s: float = 30.0,
    ) -> None:
        self._fs = fs
        self._out = out
        self._path = f"{out}/{LEASE_NAME}"
        self._on_wait = on_wait
        self._on_lost = on_lost
        self._heartbeat_s = heartbeat_s
        self._expiry_s = expiry_s
        self._me = Holder.this_process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    @property
    def token(self) -> str:
        """What actors pass to `check_lease` before each commit."""
        return self._me.token

    def check(self) -> None:
        """Make sure that the lease is still held: one small read; errors as in `check_lease`."""
        check_lease(self._fs, self._out, self.token)

    def __enter__(self) -> RunLease:
        """Acquire the lease; wait if another one may be dead.

        Raises:
            PathgenError: a living run holds the lease, or the folder cannot be written.
        """
        while not create_exclusive(self._fs, self._path, self._content()):
            found = self._await_expiry()
            if found is not None and self._take_over(found):
                break
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the heartbeat and give the lease back, unless another run has taken it over."""
        self._ended.set()
        self._thread.join(_LAST_BEAT_S)
        with suppress(PathgenError):
            self.check()
            remove_file(self._fs, self._path)

    def _await_expiry(self) -> bytes | None:
        """Watch another run's lease until it may be taken over; its content then, None if it was given back."""
        watched = self._read()
        holder = Holder.parse(watched)
        since_s = time.monotonic()
        announced = False
        while watched is not None and not (holder and holder.is_dead_here()):
            if time.monotonic() - since_s >= self._expiry_s:
                break
            if not announced:
                who = holder or "an unnamed run"
                self._on_wait(f"{self._out} is held by {who}; waiting {self._expiry_s:g} s for a heartbeat")
                announced = True
            time.sleep(self._heartbeat_s / 5)
            content = self._read()
            if content == watched:
                continue
            if content is not None and holder is not None:
                living = Holder.parse(content) or holder
                raise PathgenError(f"{self._out} is being written by {living}; wait for it or end it first")
            # The lease was half-written or is gone: watch what is there now.
            watched, since_s = content, time.monotonic()
            holder = Holder.parse(content)
        return watched

    def _take_over(self, found: bytes) -> bool:
        """Replace a dead lease; False if another process was faster."""
        one_at_a_time = FileLock(f"{self._out}/{TEMPORARY_PREFIX}lease") if is_local(self._fs) else nullcontext()
        with one_at_a_time:
            if self._read() != found:
                return False
            put(self._fs, self._path, self._content())
        # Without a file lock several may have written; the last content stays, so the others see now that they lost.
        time.sleep(self._heartbeat_s / 5)
        holder = Holder.parse(self._read())
        return holder is not None and holder.token == self.token

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            # A full disk or a network failure may pass before the lease expires, so try again at the next beat.
            with suppress(PathgenError):
                try:
                    self.check()
                except LeaseLost as error:
                    self._on_lost(str(error))
                    return
                put(self._fs, self._path, self._content())

    def _content(self) -> bytes:
        return json.dumps({**asdict(self._me), "heartbeat_ms": int(time.time() * 1000)}).encode()

    def _read(self) -> bytes | None:
        return read_file(self._fs, self._path)


def check_lease(fs: AbstractFileSystem, out: str, token: str) -> None:
    """Make sure that a run still holds its folder: one small read, before each commit.

    Raises:
        LeaseLost: another run holds the folder, or the lease is gone.
        PathgenError: the lease cannot be read.
    """
    content = read_file(fs, f"{out}/{LEASE_NAME}")
    if content is None:
        raise LeaseLost(f"{out}: this run's lease was given back or removed")
    holder = Holder.parse(content)
    if holder is None or holder.token != token:
        raise LeaseLost(f"{out} was taken over by {holder or 'another run'}")


def _boot_id() -> str:
    """Identifies this boot and, in a container, its pid namespace."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return str(int(psutil.boot_time()))
