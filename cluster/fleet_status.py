"""How far the fleets on a cluster are: each driver publishes its progress there, and anyone on the cluster reads it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .protocol import Progress

NAMESPACE = "fleet-status"
_EVERY_S = 1.0
_READ_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """A fleet's progress, as its driver last published it.

    Attributes:
        what: the work, for example `searching runs/demo`.
        job_id: Ray's id of the driver's connection.
        done: items done, those of earlier calls included.
        total: all items.
        failed: of those done in this call.
        rate: items per second in this call.
    """

    what: str
    job_id: str
    done: int
    total: int
    failed: int
    rate: float

    @property
    def eta_s(self) -> float | None:
        """Seconds that the rest may take; None while nothing is known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "eta_s": self.eta_s}


class StatusBoard:
    """A small actor of the driver's, and gone with it: it holds the last status."""

    def __init__(self) -> None:
        self._status: Mapping[str, Any] | None = None

    def write(self, status: Mapping[str, Any]) -> None:
        """Replace the status."""
        self._status = status

    def read(self) -> Mapping[str, Any] | None:
        """The last one; None before the first."""
        return self._status


@contextlib.contextmanager
def publishing(what: str, done_before: int, *, shared: bool) -> Iterator[Callable[[Progress], None]]:
    """Publishes a fleet's progress for the body of a `with`, at most once a second; the work never waits for it.

    Args:
        what: the work, for people.
        done_before: items done by earlier calls, which the fleet does not know of.
        shared: False publishes nothing: nobody else can see a Ray that a run started for itself.
    """
    if not shared:
        yield lambda progress: None
        return
    import ray

    # It runs anywhere, moves if its node is lost, and takes no CPU from the work.
    board: Any = ray.remote(StatusBoard).options(
        name=f"{what} {uuid.uuid4().hex[:8]}", namespace=NAMESPACE, num_cpus=0, max_restarts=-1
    )
    publisher = _Publisher(board.remote(), what, done_before, ray.get_runtime_context().get_job_id())
    try:
        yield publisher
    finally:
        with contextlib.suppress(Exception):  # whatever becomes of the board, the work is what counts
            ray.kill(publisher.board)


class _Publisher:
    """Sends progress to the board, one call at a time, so that a board that hangs gathers none."""

    def __init__(self, board: Any, what: str, done_before: int, job_id: str):
        self.board = board
        self._what, self._done_before, self._job_id = what, done_before, job_id
        self._sent: Any = None
        self._sent_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        import ray

        with contextlib.suppress(Exception):  # whatever becomes of the board, the work is what counts
            if self._sent is not None and not ray.wait([self._sent], timeout=0)[0]:
                return
            now = time.monotonic()
            if now - self._sent_at < _EVERY_S and progress.done < progress.total:
                return
            status = FleetStatus(
                self._what,
                self._job_id,
                self._done_before + progress.done,
                self._done_before + progress.total,
                progress.failed,
                progress.rate,
            )
            self._sent = self.board.write.remote(asdict(status))
            self._sent_at = now


def read_statuses() -> list[FleetStatus]:
    """What all fleets on the connected cluster have published, by name. A board that does not answer is left out."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    names = sorted(entry["name"] for entry in named if entry["namespace"] == NAMESPACE)
    found: list[FleetStatus] = []
    for name in names:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it ended meanwhile
            board = ray.get_actor(name, namespace=NAMESPACE)
            status: Any = ray.get(board.read.remote(), timeout=_READ_TIMEOUT_S)
            if status:
                found.append(FleetStatus(**status))
    return found
