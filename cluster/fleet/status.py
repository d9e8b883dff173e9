"""Progress of the fleets on a cluster: each driver publishes it, and anyone on the cluster can read it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .protocol import Progress

NAMESPACE = "fleet-status"
EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """A fleet's progress, as its driver last published it.

    Attributes:
        what: the work, for example `searching runs/demo`.
        done: items done, those of earlier calls included.
        failed, rate: items that failed, and items per second, in this call.
    """

    DERIVED = ("eta_s",)

    what: str
    done: int
    total: int
    failed: int
    rate: float

    @property
    def eta_s(self) -> float | None:
        """Estimated seconds until the end; None while the rate is 0."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


class StatusBoard:
    """A small actor that holds a driver's last status, and ends with the driver."""

    def __init__(self) -> None:
        self._status: Mapping[str, Any] | None = None

    def write(self, status: Mapping[str, Any]) -> None:
        """Replace the status."""
        self._status = status

    def read(self) -> Mapping[str, Any] | None:
        """The last status; None before the first."""
        return self._status


@contextlib.contextmanager
def publishing(what: str, done_before: int, *, shared: bool) -> Iterator[Callable[[Progress], None]]:
    """Publish a fleet's progress every few seconds within a `with` block; the work never waits for it.

    Args:
        what: the work, for example `searching runs/demo`.
        done_before: items done by earlier calls; the fleet does not count them.
        shared: False publishes nothing, because nobody else can see a Ray that a run started for itself.
    """
    if not shared:
        yield lambda progress: None
        return
    with contextlib.closing(Publisher(lambda: _make_board(what), what, done_before)) as publisher:
        yield publisher


class Publisher:
    """Sends progress to a board, one call at a time, so that calls do not pile up on a board that hangs.

    The first call makes the board, so a run of a few seconds makes none. The arguments are those of `publishing`, and
    `make_board` returns the handle of a new `StatusBoard`.
    """

    def __init__(self, make_board: Callable[[], Any], what: str, done_before: int):
        self._make_board = make_board
        self._what, self._done_before = what, done_before
        self._board: Any = None
        self._sent: Any = None
        self._sent_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Send the progress, if it is time and the last call has returned."""
        import ray

        now = time.monotonic()
        if now - self._sent_at < EVERY_S:
            return
        with contextlib.suppress(Exception):  # a broken board must not stop the work
            if self._sent is not None and not ray.wait([self._sent], timeout=0)[0]:
                return
            self._sent_at = now
            self._board = self._board or self._make_board()
            done, total = self._done_before + progress.done, self._done_before + progress.total
            status = FleetStatus(self._what, done, total, progress.failed, progress.rate)
            self._sent = self._board.write.remote(asdict(status))

    def close(self) -> None:
        """End the board."""
        import ray

        if self._board is not None:
            with contextlib.suppress(Exception):  # it ends with the driver at the latest
                ray.kill(self._board)


def _make_board(what: str) -> Any:
    """Make an actor that runs on any node, restarts if its node is lost, and takes no CPU from the work."""
    import ray

    name = f"{what} {uuid.uuid4().hex[:8]}"
    board: Any = ray.remote(StatusBoard).options(name=name, namespace=NAMESPACE, num_cpus=0, max_restarts=-1)
    return board.remote()


def read_statuses() -> list[FleetStatus]:
    """The statuses of all fleets on the connected cluster, sorted by name. Boards that do not answer are left out."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    names = sorted(entry["name"] for entry in named if entry["namespace"] == NAMESPACE)
    found: list[FleetStatus] = []
    for name in names:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it ended meanwhile
            board = ray.get_actor(name, namespace=NAMESPACE)
            status: Any = ray.get(board.read.remote(), timeout=5.0)
            if status:
                found.append(FleetStatus(**status))
    return found
