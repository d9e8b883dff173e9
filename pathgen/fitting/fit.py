"""A fit that goes on where it was interrupted: texts and sums lie in a hidden folder beside the output."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..bridges.sums import LayerSums
from ..engine.path_model import PathModel
from ..store.files import put
from .states import Group, add_texts, tokens_of
from .text import Texts

SAVE_EVERY_S = 60.0
TEXTS_NAME, SUMS_FILES = "texts.json", "sums-{}.safetensors"
HERE = "here"
"""The writer of sums in this process."""


class PartialFit:
    """The state of an unfinished fit: its texts, and a file of sums of each writer.

    A file tells which groups of the text are in its sums. Files that share a group are never added up: the one with
    fewer groups is left out, and what only it holds is summed again. So each group counts once, whatever an actor
    that was given up still writes.

    Args:
        folder: where it lies; made when the first file is written.
        settings: a digest of all that the fit depends on; what another fit left is replaced.
    """

    def __init__(self, folder: Path, settings: str):
        self.folder, self.settings = folder, settings
        self._fs = LocalFileSystem()

    def texts(self, draw: Callable[[], Texts]) -> Texts:
        """The texts of the interrupted fit, or new ones, which are kept: sampled text would take time again."""
        try:
            stored = json.loads((self.folder / TEXTS_NAME).read_bytes())
            if stored["settings"] == self.settings:
                fit, held_out = (tuple(map(tuple, stored[name])) for name in ("fit", "held_out"))
                return Texts(fit, held_out)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        texts = draw()
        self.remove()
        self.folder.mkdir(parents=True)
        content = {"settings": self.settings, "fit": texts.fit, "held_out": texts.held_out}
        self._put(TEXTS_NAME, json.dumps(content).encode())
        return texts

    def stored(self, writer: str) -> frozenset[int]:
        """The groups in a writer's file; none without one, or if it is of another fit."""
        try:
            with safe_open(self._path(writer), framework="pt") as file:
                facts = file.metadata()
            return frozenset(json.loads(facts["groups"])) if facts["settings"] == self.settings else frozenset()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return frozenset()

    def files(self) -> dict[str, frozenset[int]]:
        """The groups of each writer's file, of files that share none."""
        before, after = SUMS_FILES.split("{}")
        names = [path.name[len(before) : -len(after)] for path in self.folder.glob(SUMS_FILES.format("*"))]
        held = {name: groups for name in sorted(names) if (groups := self.stored(name))}
        chosen: dict[str, frozenset[int]] = {}
        for name in sorted(held, key=lambda name: (-len(held[name]), min(held[name]))):
            if not any(held[name] & others for others in chosen.values()):
                chosen[name] = held[name]
        return chosen

    def sums(self, num_layers: int, width: int) -> tuple[list[LayerSums], set[int]]:
        """The stored sums of each layer, and the groups in them; empty ones without any."""
        total, done = empty_sums(num_layers, width), set[int]()
        for writer, groups in self.files().items():
            with safe_open(self._path(writer), framework="pt") as file:
                counts = json.loads(file.metadata()["counts"])
                for layer, one in enumerate(total):
                    gram, cross = (file.get_tensor(f"{layer}.{name}") for name in ("gram", "cross"))
                    one.merge(LayerSums(gram, cross, counts[layer]))
            done |= groups
        return total, done

    def keep(self, writer: str, sums: Sequence[LayerSums], groups: Iterable[int]) -> None:
        """Store a writer's sums over these groups in place of its last ones.

        Raises:
            PathgenError: the disk is full, for example.
        """
        tensors = {f"{layer}.gram": one.gram for layer, one in enumerate(sums)}
        tensors |= {f"{layer}.cross": one.cross for layer, one in enumerate(sums)}
        counts = json.dumps([one.tokens for one in sums])
        facts = {"settings": self.settings, "groups": json.dumps(sorted(groups)), "counts": counts}
        self._put(SUMS_FILES.format(writer), save(tensors, facts))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, writer: str) -> Path:
        return self.folder / SUMS_FILES.format(writer)

    def _put(self, name: str, content: bytes) -> None:
        put(self._fs, str(self.folder / name), content)


def empty_sums(num_layers: int, width: int) -> list[LayerSums]:
    """The sums of each layer over nothing."""
    return [LayerSums.empty(width) for _ in range(num_layers)]


def summed(
    model: PathModel,
    groups: Sequence[Group],
    partial: PartialFit,
    on_tokens: Callable[[int], object] = lambda tokens: None,
) -> list[LayerSums]:
    """The sums of every layer over all groups: those stored, by actors too, and the others run in this process.

    `on_tokens` gets the tokens of each group that has run.
    """
    sums, done = partial.sums(model.num_layers, model.config.hidden_size)
    kept_at = time.monotonic()
    for number, group in enumerate(groups):
        if number in done:
            continue
        add_texts(model, group, sums)
        done.add(number)
        on_tokens(tokens_of(group))
        if time.monotonic() - kept_at > SAVE_EVERY_S or len(done) == len(groups):
            partial.keep(HERE, sums, done)
            kept_at = time.monotonic()
    return sums
