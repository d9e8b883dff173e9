"""Features on disk, in the folder of their run: written once, memory-mapped by every training."""

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
from pathgen.identity import lasting
from pathgen.store.files import is_local, list_files, open_folder, put, read_file

from ..net.pooling import Pooling
from .features import FeatureKey

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
OPEN_FILES = {True: 64, False: 4}
"""Files that a reader holds open: local ones (True) memory-mapped, others whole in memory."""


class FeatureStore:
    """The files `OUT/features/<fingerprint>-<digest>/part-<writer>-<digest>.safetensors`; nothing is unpickled.

    The folder's digest is over the pooling and the dtype, so kinds of features are never mixed. A file holds one
    tensor [L, W, H] per key, named by the key's digest; its metadata holds the errors of keys that have none. The
    file's digest is over its bytes.

    Attributes:
        files: key digest -> path of the file that holds its features, as of the last scan.
        errors: key digest -> why it has none, as of the last scan.
    """

    def __init__(self, out: str, fingerprint: str, dtype: str, pooling: Pooling):
        self.fs, root = open_folder(out)
        self.out = root if is_local(self.fs) else out
        kind = _digest(json.dumps([asdict(pooling), dtype]).encode())
        self.folder = f"{root}/features/{lasting(fingerprint)}-{kind}"
        self.files: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self._scanned: set[str] = set()

    def knows(self, name: str) -> bool:
        """Whether the last scan found a key's features, or its error."""
        return name in self.files or name in self.errors

    def write(self, writer: str, features: Mapping[str, Tensor], errors: Mapping[str, str]) -> None:
        """Commit one file.

        Args:
            writer: an id that is never used twice.
            features: key digest -> [L, W, H].
            errors: key digest -> why it has no features.

        Raises:
            PathgenError: the disk is full, for example; no part of the file is left.
        """
        data = save(dict(features), metadata=dict(errors))
        put(self.fs, f"{self.folder}/part-{writer}-{_digest(data)}{SUFFIX}", data, passing=fault_point)

    def scan(self, writer: str | None = None) -> None:
        """Read the files that are new since the last scan, or only one writer's; delete a damaged one, with a warning.

        Raises:
            PathgenError: the file system refuses.
        """
        for name in list_files(self.fs, self.folder):
            if name in self._scanned or not name.startswith(f"part-{writer}-" if writer else "part-"):
                continue
            path = f"{self.folder}/{name}"
            data = read_file(self.fs, path)
            if data is None:  # another run has just deleted it
                continue
            if name.removesuffix(SUFFIX).rpartition("-")[2] != _digest(data):
                logger.warning("%s is damaged: deleted, its features are computed again", path)
                self.fs.rm_file(path)
                continue
            length = int.from_bytes(data[:8], "little")  # of the header, which follows as JSON
            header = json.loads(data[8 : 8 + length])
            self.errors |= header.pop("__metadata__", {})
            self.files |= dict.fromkeys(header, path)
            self._scanned.add(name)


class FeatureSet:
    """The features of some keys, read on demand from the files that the store's last scan found.

    The argument `errors`, key digest -> why it has no features, adds to the store's.

    Attributes:
        keys: those that have features, in the order given.
        errors: those that have none, each with one line of explanation.
        seconds: from the first ready actor to the last commit; 0 if all were stored before.
    """

    def __init__(self, store: FeatureStore, keys: Sequence[FeatureKey], errors: Mapping[str, str], seconds: float):
        reasons = {**errors, **store.errors}
        self.keys = tuple(key for key in keys if key.digest in store.files)
        self.errors = tuple((key, reasons[key.digest]) for key in keys if key.digest not in store.files)
        self.seconds = seconds
        self._places = [(store.files[name], name) for name in (key.digest for key in self.keys)]
        self._fs = store.fs
        self._open = lru_cache(OPEN_FILES[is_local(store.fs)])(self._open_file)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 features of `keys[i]` for each of one or more indices, in their order.

        Raises:
            ArtefactError: a file is gone, damaged, or holds NaN or Inf.
        """
        by_file = sorted(set(indices), key=self._places.__getitem__)
        found = {index: self._row(index) for index in by_file}
        return torch.stack([found[index] for index in indices])

    def _row(self, index: int) -> Tensor:
        file, name = self._places[index]
        try:
            row = self._open(file)(name).float()
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
        """A function that reads a file's tensors by name."""
        if is_local(self._fs):
            return safe_open(path, framework="pt").get_tensor
        return load(self._fs.cat_file(path)).__getitem__


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
