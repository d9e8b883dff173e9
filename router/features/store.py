"""Features on disk, beside the shards they belong to: written once, memory-mapped by every training."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from pathgen.errors import ArtefactError
from pathgen.faults import fault_point
from pathgen.store.files import is_local, list_files, open_folder, put, read_file

from ..net.pooling import Pooling
from .features import FeatureKey

logger = logging.getLogger(__name__)

FEATURES_FOLDER = "features"
SUFFIX = ".safetensors"
OPEN_FILES = {True: 64, False: 4}
"""Files a reader holds open: memory-mapped where they are local (True), else in memory as a whole."""


class FeatureStore:
    """The files `OUT/features/<fingerprint>-<digest>/part-<writer>-<digest>.safetensors`; nothing is unpickled.

    The folder's digest is over the pooling and the dtype, so that no two kinds of features meet. A file holds one
    tensor [L, W, H] per key, named by the key's digest; its metadata holds the errors of keys that have none. The
    file's digest is over its bytes.

    Args:
        out: a run's folder or URL.
        fingerprint: of the model's weights.
        dtype: in which the model runs.
        pooling: what is kept of the states.

    Attributes:
        files: key digest -> path of the file that holds its features, as of the last scan.
        errors: key digest -> why it has none, as of the last scan.
    """

    def __init__(self, out: str, fingerprint: str, dtype: str, pooling: Pooling):
        self.fs, root = open_folder(out)
        self.out = root if is_local(self.fs) else out
        kind = _digest(json.dumps([asdict(pooling), dtype]).encode())
        self.folder = f"{root}/{FEATURES_FOLDER}/{fingerprint}-{kind}"
        self.files: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self._scanned: set[str] = set()

    def knows(self, name: str) -> bool:
        """Whether the last scan found a key's features, or why it has none."""
        return name in self.files or name in self.errors

    def write(self, writer: str, features: Mapping[str, Tensor], errors: Mapping[str, str]) -> None:
        """Commit one file.

        Args:
            writer: who writes; ids are never used twice.
            features: key digest -> [L, W, H].
            errors: key digest -> why it has no features.

        Raises:
            PathgenError: disk full and the like; no part of the file is left.
        """
        data = save(dict(features), metadata=dict(errors))
        put(self.fs, f"{self.folder}/part-{writer}-{_digest(data)}{SUFFIX}", data, passing=fault_point)

    def scan(self, writer: str | None = None) -> None:
        """Take note of files that came since the last scan; a damaged one is deleted, with a warning.

        Args:
            writer: look at this writer's files only.

        Raises:
            PathgenError: the file system refuses.
        """
        for name in list_files(self.fs, self.folder):
            if name in self._scanned or not name.startswith(f"part-{writer}-" if writer else "part-"):
                continue
            path = f"{self.folder}/{name}"
            data = read_file(self.fs, path)
            if data is None:  # another run has deleted it meanwhile
                continue
            if name.removesuffix(SUFFIX).rpartition("-")[2] != _digest(data):
                logger.warning("%s is damaged: deleted, its features are computed again", path)
                self.fs.rm_file(path)
                continue
            header = _header(data)
            self.errors |= header.pop("__metadata__", {})
            self.files |= dict.fromkeys(header, path)
            self._scanned.add(name)


class FeatureSet:
    """The features of some keys, read from disk as they are asked for.

    Args:
        store: scanned.
        keys: what is wanted.
        errors: key digest -> why there are none, beside what the store knows.
        seconds: that computing took.

    Attributes:
        keys: those that have features, in the order given.
        errors: those that have none, each with one line that says why.
        seconds: from the first actor's being ready to the last commit; 0 where all was there before.
    """

    def __init__(self, store: FeatureStore, keys: Sequence[FeatureKey], errors: Mapping[str, str], seconds: float):
        reasons = {**errors, **store.errors}
        self.keys = tuple(key for key in keys if key.digest in store.files)
        self.errors = tuple((key, reasons[key.digest]) for key in keys if key.digest not in store.files)
        self.seconds = seconds
        self._names = [key.digest for key in self.keys]
        self._files = [store.files[name] for name in self._names]
        self._store = store
        self._open = lru_cache(OPEN_FILES[is_local(store.fs)])(self._open_file)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 features of `keys[i]` for each of one or more indices, in their order.

        Raises:
            ArtefactError: a file is gone, damaged, or holds NaN or Inf.
        """
        found: dict[int, Tensor] = {}
        for index in sorted(set(indices), key=lambda index: self._files[index]):
            found[index] = self._row(index)
        return torch.stack([found[index] for index in indices])

    def _row(self, index: int) -> Tensor:
        file = self._files[index]
        try:
            row = self._open(file)(self._names[index]).float()
        except (OSError, SafetensorError, KeyError) as error:
            raise ArtefactError(
                f"{file} was there a while ago and cannot be read now ({error}); run the same command again"
            ) from error
        if not row.isfinite().all():
            question = self.keys[index].question.id
            raise ArtefactError(
                f"{file} holds NaN or Inf for question {question}; delete it and run the same command again"
            )
        return row

    def _open_file(self, path: str) -> Callable[[str], Tensor]:
        """What gives a file's tensors by name."""
        if is_local(self._store.fs):
            return safe_open(path, framework="pt").get_tensor
        return load(self._store.fs.cat_file(path)).__getitem__


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _header(data: bytes) -> dict:
    """A safetensors file's header: eight bytes of length, then JSON of that many bytes."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
