"""A fit shared by actors: each sums what its groups of the text give, and stores its sums beside the others'."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from cluster.fleet.protocol import Progress, Recovered
from cluster.fleet.work_thread import WorkThread

from ..actors.fleet_run import fleet_run
from ..actors.model_spec import ModelSpec, is_sticky
from ..actors.options import ActorOptions
from ..errors import PathgenError
from .fit import SAVE_EVERY_S, PartialFit, empty_sums
from .states import Group, add_texts, tokens_of

HELD = 2
"""Groups that an actor holds: the one that runs, and the next."""
GROUP_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Share:
    """One group of the text, by its number."""

    number: int
    group: Group

    @property
    def key(self) -> str:
        """The number, which names it in a fleet."""
        return str(self.number)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """All that an actor needs: the model, and the folder and the settings of the `PartialFit`."""

    model: ModelSpec
    folder: str
    settings: str


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The model as the driver found it: its name, fingerprint, folder and dtype."""

    name: str
    fingerprint: str
    folder: Path
    dtype: str


class FitWorker(WorkThread):
    """Sums groups, and stores its sums under its writer id. The constructor loads the model, once."""

    def __init__(self, fit: FitSettings, writer: str):
        self._model = fit.model.load(fit.folder)
        self._partial, self._writer = PartialFit(Path(fit.folder), fit.settings), writer
        self._sums = empty_sums(self._model.num_layers, self._model.config.hidden_size)
        self._lock = threading.Lock()  # held while the sums change or are stored
        self._whole = True  # False within a group, and for good after an error there
        self._queue: list[Share] = []
        self._done: set[int] = set()
        self._durable: set[int] = set()
        self._kept_at = time.monotonic()
        self.moved_at, self.counters = {}, {}
        super().__init__(HELD, is_sticky)

    @property
    def held(self) -> int:
        """Groups taken and not summed."""
        return len(self._queue)

    def take_up(self, item: Share) -> None:
        """Add a group to those to be summed."""
        self._queue.append(item)

    def step(self) -> None:
        """Sum one group; store the sums if it is time."""
        if self._queue:
            share = self._queue[0]
            self.moved_at = {share.key: time.monotonic()}
            with self._lock:
                self._whole = False
                add_texts(self._model, share.group, self._sums)
                self._done.add(share.number)
                self._whole = True
            self.moved_at = {}
            del self._queue[0]
            self.publish(finished=[share.key])
        if time.monotonic() - self._kept_at > SAVE_EVERY_S:
            self.publish(durable=self.commit())

    def commit(self) -> Iterable[str]:
        """Store the sums, unless a group is being added to them."""
        if not self._lock.acquire(blocking=False):
            return ()
        try:
            return self._store()
        finally:
            self._lock.release()

    def close(self) -> Iterable[str]:
        """Store the sums."""
        with self._lock:
            return self._store()

    def _store(self) -> list[str]:
        fresh = sorted(self._done - self._durable)
        if not fresh or not self._whole:
            return []
        self._partial.keep(self._writer, self._sums, self._done)
        self._durable.update(fresh)
        self._kept_at = time.monotonic()
        return list(map(str, fresh))


def sum_on_actors(
    options: ActorOptions,
    model: FoundModel,
    device: str,
    groups: Sequence[Group],
    partial: PartialFit,
    on_tokens: Callable[[int, float], object],
) -> tuple[int, float]:
    """Let actors on this machine sum the groups that are not stored yet; their sums lie in the partial fit then.

    Args:
        options: how many actors, and their threads.
        model: that they load.
        device: cpu or cuda.
        groups: of the whole text.
        partial: the fit that the groups belong to.
        on_tokens: called about once a second with the tokens summed in this call, and the seconds since an actor was
            ready.

    Returns:
        What `on_tokens` gets, at the end.

    Raises:
        PathgenError: a group was given up: a state is not finite, for example.
        InputError: there is no room for so many actors.
        ClusterError: Ray does not start, or actors die repeatedly; the cause is in it.
    """
    done = frozenset[int]().union(*partial.files().values())
    shares = [Share(number, group) for number, group in enumerate(groups) if number not in done]
    tokens = sum(tokens_of(share.group) for share in shares)
    if not shares:
        return 0, 0.0
    given_up: list[str] = []
    stop = threading.Event()

    def recover(writer: str, held: list[Share]) -> Recovered:
        stored = partial.stored(writer)
        return Recovered(frozenset(share.key for share in held if share.number in stored))

    def give_up(share: Share, cause: str) -> None:
        given_up.append(cause)
        stop.set()

    def on_progress(now: Progress) -> None:
        on_tokens(tokens * now.done // now.total, now.seconds)

    fs, where = LocalFileSystem(), str(partial.folder.absolute())
    with fleet_run(options, None, device, model.folder, fs, where, len(shares)) as actors:
        spec = actors.placement.model_spec(model.name, model.fingerprint, model.dtype, bridged=False)
        fleet = actors.fleet(
            FitWorker,
            FitSettings(spec, where, partial.settings),
            item_timeout_s=GROUP_TIMEOUT_S,
            recover=recover,
            on_failed=give_up,
            stop=stop,
        )
        progress = fleet.run(shares, len(shares), on_progress)
    if given_up:
        raise PathgenError(given_up[0])
    return tokens, progress.seconds
