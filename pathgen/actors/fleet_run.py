"""A run's items on a fleet of actors: Ray connected, actors placed, progress shown and published."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from cluster.connection.probe import Probe
from cluster.connection.session import Session, connect
from cluster.fleet.fleet import Fleet, FleetSettings
from cluster.fleet.protocol import Item, Progress, Recovered
from cluster.fleet.status import publishing
from cluster.program.progress import ProgressView

from .options import ActorOptions
from .placement import Placement, check_disks, only_node, place_actors


@dataclass(frozen=True, slots=True)
class FleetRun:
    """A run on actors: makes its fleets, and runs items on them.

    Attributes:
        node: Ray's id of the node that all actors are bound to; None if they may run on any.
    """

    options: ActorOptions
    session: Session
    placement: Placement
    node: str | None

    def fleet(
        self,
        worker: type,
        settings: Any,
        *,
        item_timeout_s: float,
        recover: Callable[[str, list[Any]], Recovered],
        on_failed: Callable[[Any, str], None],
        stop: threading.Event | None = None,
        stop_by: Callable[[], float] = lambda: math.inf,
    ) -> Fleet:
        """A fleet of `worker` actors, each made from the settings and its writer id; other arguments as `Fleet`."""
        return Fleet(
            self.placement.actor_factory(worker, settings, node=self.node),
            FleetSettings(
                num_actors=self.placement.fleet_size(self.options, self.session, self.node),
                item_timeout_s=item_timeout_s,
                start_timeout_s=self.options.start_timeout_s,
                stop_by=stop_by,
                resources=self.placement.resources,
            ),
            recover=recover,
            on_failed=on_failed,
            stop=stop or threading.Event(),
        )

    def run(self, fleet: Fleet, items: Sequence[Item], what: str, out: str, done_before: int) -> Progress:
        """Run the items to their end, or until the fleet is stopped.

        Progress shows `what` (for example `searching`) and includes the `done_before` items of earlier calls.
        """
        with (
            ProgressView(what, done_before + len(items), done_before, quiet=self.options.quiet) as view,
            publishing(f"{what} {out}", done_before, shared=self.options.address is not None) as publish,
        ):

            def on_progress(now: Progress) -> None:
                view.update(now.done, now.failed, now.rate, now.counters)
                publish(now)

            return fleet.run(items, len(items), on_progress)


@contextmanager
def fleet_run(
    options: ActorOptions, cluster: Probe | None, device: str, model: Path, fs: AbstractFileSystem, out: str, most: int
) -> Iterator[FleetRun]:
    """Connect to Ray and place actors for at most `most` items there, within a `with` block.

    `cluster` None starts Ray on this machine. `fs` holds the run's folder, which messages name `out`.

    Raises:
        InputError: actors and this machine cannot share the folder, or there is no room for so many actors.
        ClusterError: Ray cannot be reached.
    """
    with connect(cluster) as session:
        check_disks(out, fs, len(session.nodes()), shared_fs=options.shared_fs)
        placement = place_actors(options, device, session, model, most)
        yield FleetRun(options, session, placement, only_node(fs, session, shared_fs=options.shared_fs))
