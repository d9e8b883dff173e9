"""The feature pass: what is not in the store yet is computed by actors, and only that."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster import ClusterError
from cluster.connection.probe import Probe
from cluster.connection.session import Session, connect
from cluster.fleet.fleet import Fleet, FleetSettings
from cluster.fleet.protocol import Item, Progress, Recovered
from cluster.fleet.status import publishing
from cluster.program.progress import ProgressView
from pathgen.actors.placement import Placement, check_disks, only_node, place_actors
from pathgen.errors import PathgenError
from pathgen.generate.options import check_gpus_per_actor
from pathgen.models.devices import default_device, default_dtype
from pathgen.models.resolving import absolute_name, resolve_model
from pathgen.store.files import remove_leftovers

from ..net.pooling import Pooling
from .features import FeatureKey
from .store import FeatureSet, FeatureStore
from .worker import FeatureSettings, FeatureWorker

logger = logging.getLogger(__name__)

NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """What a person may ask for of a feature pass; it satisfies `pathgen.actors.placement.ActorOptions`.

    Attributes:
        actors: at a time; None as `place_actors` has it.
        threads_per_actor: torch threads of each; None as `place_actors` has it.
        gpus_per_actor: GPUs of each, or the share of one.
        in_flight: keys that an actor works on at a time, and writes as one file.
        dtype: of the weights; None is float32 on the CPU and bfloat16 on CUDA.
        device: None is CUDA where there is a GPU.
        address: of a Ray cluster; None starts Ray on this machine.
        shared_fs: whether all nodes of the cluster see the folder.
        start_timeout_s: so long the pass waits for a first actor.
        forward_timeout_s: an actor whose work has not moved for so long is replaced.
        quiet: show no progress.
    """

    actors: int | None = None
    threads_per_actor: int | None = None
    gpus_per_actor: float = 1.0
    in_flight: int = 64
    dtype: str | None = None
    device: str | None = None
    address: str | None = None
    shared_fs: bool = False
    start_timeout_s: float = 300.0
    forward_timeout_s: float = 600.0
    quiet: bool = False

    def __post_init__(self) -> None:
        """InputError for GPUs that cannot be."""
        check_gpus_per_actor(self.gpus_per_actor)


def compute_features(
    out: str, keys: Sequence[FeatureKey], model: str, fingerprint: str, pooling: Pooling, options: FeatureOptions
) -> FeatureSet:
    """Features of the keys, from the store under `out` or computed now; an interrupted pass goes on where it was.

    Keys that have no features (a prompt longer than the context, NaN) are named in a warning and in the set's
    `errors`. They are not tried again, as the same weights give the same; those whose actor died are.

    Args:
        out: a run's folder or URL.
        keys: what is wanted.
        model: alias, folder or hub id.
        fingerprint: of its weights.
        pooling: what the router sees.
        options: how it is computed.

    Raises:
        PathgenError: no actor gets anywhere (disk full, for example), with the cause.
        InputError: more actors than there is room for, or an unknown model.
        ClusterError: Ray cannot be reached.
    """
    cluster = Probe(options.address) if options.address else None
    device = options.device or default_device(cluster)
    dtype = options.dtype or default_dtype(device)
    store = FeatureStore(out, fingerprint, dtype, pooling)
    store.scan()
    wanted = {key.digest: key for key in keys}
    missing = {name: key for name, key in wanted.items() if not store.knows(name)}
    given_up: dict[str, str] = {}
    seconds = 0.0
    if missing:
        remove_leftovers(store.fs, store.folder)  # of killed writers; a living one's would be written again
        with connect(cluster) as session:
            check_disks(out, store.fs, len(session.nodes()), shared_fs=options.shared_fs)
            placement = place_actors(options, device, session, resolve_model(model), len(missing))
            settings = FeatureSettings(
                out=store.out,
                model=absolute_name(model),
                fingerprint=fingerprint,
                dtype=dtype,
                device=placement.device,
                devices_per_actor=placement.devices_per_actor,
                threads=placement.threads,
                pooling=pooling,
                file_keys=min(placement.in_flight, math.ceil(len(missing) / placement.num_actors)),
            )
            fleet = _FeatureFleet(store, settings, placement, options, session)
            seconds = fleet.run(missing, done_before=len(wanted) - len(missing))
            given_up = fleet.given_up
    return _named(FeatureSet(store, keys, given_up, seconds))


class _FeatureFleet:
    """Computes missing features on actors: a dead actor's files are found, a key that kills is given up.

    Args:
        store: scanned.
        settings: what actors are told.
        placement: where they run.
        options: what was asked for.
        session: the Ray they run on.

    Attributes:
        given_up: key digest -> why.
    """

    def __init__(
        self,
        store: FeatureStore,
        settings: FeatureSettings,
        placement: Placement,
        options: FeatureOptions,
        session: Session,
    ):
        self._session = session
        self._store = store
        self._settings = settings
        self._placement = placement
        self._options = options
        self.given_up: dict[str, str] = {}

    def run(self, missing: Mapping[str, FeatureKey], done_before: int) -> float:
        """Compute these keys, by their digests; the seconds it took. The store knows them afterwards.

        Raises:
            PathgenError: actors get nowhere, or write where this machine cannot read.
        """
        options, placement = self._options, self._placement
        total = done_before + len(missing)
        with (
            ProgressView("features", total, done_before, quiet=options.quiet) as view,
            publishing(f"features {self._settings.out}", done_before, shared=options.address is not None) as publish,
        ):

            def on_progress(now: Progress, counters: Mapping[str, float]) -> None:
                view.update(now.done, now.failed, now.rate, counters)
                publish(now)

            node = only_node(self._store.fs, self._session, shared_fs=options.shared_fs)
            fleet = Fleet(
                placement.actor_factory(FeatureWorker, self._settings, node=node),
                FleetSettings(
                    num_actors=placement.fleet_size(options, self._session, node),
                    item_timeout_s=options.forward_timeout_s,
                    start_timeout_s=options.start_timeout_s,
                    resources=placement.resources,
                ),
                recover=self._recover,
                on_failed=self._give_up,
                stop=threading.Event(),
            )
            try:
                items = (Item(name, key) for name, key in missing.items())
                progress = fleet.run(items, len(missing), on_progress)
            except ClusterError as error:
                raise PathgenError(f"features of {self._settings.model} for {self._settings.out}: {error}") from error
        self._store.scan()
        unseen = [name for name in missing if not self._store.knows(name) and name not in self.given_up]
        if unseen:
            raise PathgenError(
                f"{len(unseen)} features were computed and are not in {self._store.folder}: the actors' machines do "
                "not share this folder; use one that they share, or an object store's URL"
            )
        return progress.seconds

    def _recover(self, writer: str, items: list[Item]) -> Recovered:
        self._store.scan(writer)
        return Recovered(frozenset(item.key for item in items if self._store.knows(item.key)))

    def _give_up(self, item: Item, cause: str) -> None:
        self.given_up[item.key] = f"question {item.payload.question.id}: {cause}"


def _named(features: FeatureSet) -> FeatureSet:
    """The same, after a warning that names what is left out."""
    if features.errors:
        reasons = [reason for _, reason in features.errors[:NAMES_SHOWN]]
        more = [f"and {len(features.errors) - NAMES_SHOWN} more"] if len(features.errors) > NAMES_SHOWN else []
        logger.warning(
            "%d of %d prompts have no features and are left out: %s",
            *(len(features.errors), len(features) + len(features.errors), "; ".join(reasons + more)),
        )
    return features
