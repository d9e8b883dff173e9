"""The feature pass: actors compute the features that are not in the store yet."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from cluster import ClusterError
from cluster.connection.probe import Probe
from cluster.fleet.protocol import Recovered
from pathgen.actors.fleet_run import FleetRun, fleet_run
from pathgen.errors import NAMES_SHOWN, PathgenError
from pathgen.models.devices import default_device, default_dtype
from pathgen.models.resolving import resolve_model
from pathgen.store.files import remove_leftovers

from ..net.pooling import Pooling
from .features import FeatureKey
from .options import FeatureOptions
from .store import FeatureSet, FeatureStore
from .worker import FeatureSettings, FeatureWorker

logger = logging.getLogger(__name__)


def compute_features(
    out: str,
    keys: Sequence[FeatureKey],
    model: str,
    fingerprint: str,
    pooling: Pooling,
    options: FeatureOptions,
    *,
    bridged: bool = False,
) -> FeatureSet:
    """Features of the keys, from the store under `out` or computed now; an interrupted pass continues.

    Keys without features (a prompt longer than the context, NaN) are named in a warning and in the set's `errors`.
    A later pass tries them again only if their actor died, because the same weights give the same result.

    `out` is a run's folder or URL; `model` is an alias, a folder or a hub id. With `bridged`, the bridges in the run's
    folder run where paths skip.

    Raises:
        PathgenError: no actor makes progress (disk full, for example), with the cause.
        InputError: more actors than there is room for, or an unknown model.
        ClusterError: Ray cannot be reached.
    """
    cluster = Probe(options.address) if options.address else None
    device = options.device or default_device(cluster)
    dtype = options.dtype or default_dtype(device)
    store = FeatureStore(out, fingerprint, dtype, pooling)
    store.scan()
    wanted = {key.digest: key for key in keys}
    missing = [key for name, key in wanted.items() if not store.knows(name)]
    given_up: dict[str, str] = {}
    seconds = 0.0
    if missing:
        remove_leftovers(store.fs, store.folder)  # of killed writers; a living writer writes its file again
        folder = resolve_model(model)
        with fleet_run(options, cluster, device, folder, store.fs, out, len(missing)) as actors:
            placement = actors.placement
            settings = FeatureSettings(
                out=store.out,
                model=placement.model_spec(model, fingerprint, dtype, bridged=bridged),
                pooling=pooling,
                file_keys=min(placement.in_flight, math.ceil(len(missing) / placement.num_actors)),
            )
            given_up, seconds = _compute(store, settings, actors, options, missing, len(wanted) - len(missing))
    features = FeatureSet(store, keys, given_up, seconds)
    if features.errors:
        left_out = len(features.errors)
        reasons = [reason for _, reason in features.errors[:NAMES_SHOWN]]
        if left_out > NAMES_SHOWN:
            reasons.append(f"and {left_out - NAMES_SHOWN} more")
        count, text = left_out + len(features), "; ".join(reasons)
        logger.warning("%d of %d prompts have no features and are left out: %s", left_out, count, text)
    return features


def _compute(
    store: FeatureStore,
    settings: FeatureSettings,
    actors: FleetRun,
    options: FeatureOptions,
    missing: Sequence[FeatureKey],
    done_before: int,
) -> tuple[dict[str, str], float]:
    """Compute features of these keys on actors, and scan them into the store.

    Returns:
        Why keys were given up, by their digests; the seconds it took.

    Raises:
        PathgenError: actors make no progress, or write to a disk that this machine cannot read.
    """
    given_up: dict[str, str] = {}

    def recover(writer: str, keys: list[FeatureKey]) -> Recovered:
        store.scan(writer)
        return Recovered(frozenset(key.digest for key in keys if store.knows(key.digest)))

    def give_up(key: FeatureKey, cause: str) -> None:
        given_up[key.digest] = f"question {key.question.id}: {cause}"

    timeout_s = options.forward_timeout_s
    fleet = actors.fleet(FeatureWorker, settings, item_timeout_s=timeout_s, recover=recover, on_failed=give_up)
    try:
        progress = actors.run(fleet, missing, "features", settings.out, done_before)
    except ClusterError as error:
        raise PathgenError(f"features of {settings.model.name} for {settings.out}: {error}") from error
    store.scan()
    unseen = [key for key in missing if not store.knows(key.digest) and key.digest not in given_up]
    if unseen:
        raise PathgenError(
            f"{len(unseen)} features were computed and are not in {store.folder}: the actors' machines do "
            "not share this folder; use one that they share, or an object store's URL"
        )
    return given_up, progress.seconds
