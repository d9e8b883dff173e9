"""The feature actor: runs the frozen model over prompts and writes their features."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.fleet.work_thread import WorkThread
from pathgen.actors.model_spec import ModelSpec, is_sticky

from ..net.pooling import Pooling
from .features import Computed, FeatureKey, feature_batches
from .store import FeatureStore


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """All that an actor needs to compute features.

    Attributes:
        out: the run's folder.
        pooling: the router's.
        file_keys: most keys of one file; the actor keeps them in memory until the file is written.
    """

    out: str
    model: ModelSpec
    pooling: Pooling
    file_keys: int


class FeatureWorker(WorkThread):
    """Computes the features of one file at a time, under its writer id. The constructor loads the model, once."""

    def __init__(self, settings: FeatureSettings, writer: str):
        self._settings = settings
        self._writer = writer
        self._model = settings.model.load(settings.out)
        self._store = FeatureStore(settings.out, settings.model.fingerprint, settings.model.dtype, settings.pooling)
        self._waiting: list[FeatureKey] = []
        self.moved_at = {}
        self.counters = {"computed": 0}
        super().__init__(settings.file_keys, is_sticky)

    @property
    def held(self) -> int:
        """Keys taken whose file is not written."""
        return len(self._waiting)

    def take_up(self, item: FeatureKey) -> None:
        """Keep a key for the next file."""
        self._waiting.append(item)

    def step(self) -> None:
        """Compute and commit one file."""
        keys = self._waiting[: self._settings.file_keys]
        if not keys:
            return
        names = [key.digest for key in keys]
        self.moved_at = dict.fromkeys(names, time.monotonic())
        file = Computed()
        for batch in feature_batches(self._model, keys, self._settings.pooling):
            file.features.update(batch.features)
            file.errors.update(batch.errors)
            self.counters = {"computed": self.counters["computed"] + len(batch.features)}
            self.moved_at = dict.fromkeys(names, time.monotonic())
        self.moved_at = {}
        self.publish(finished=names, failed=file.errors)
        self._store.write(self._writer, file.features, file.errors)
        self._waiting = self._waiting[len(keys) :]
        self.publish(durable=names)

    def close(self) -> Iterable[str]:
        """Nothing is left to commit: `step` commits every file."""
        return ()
