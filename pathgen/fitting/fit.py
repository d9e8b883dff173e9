"""A fit of bridges that goes on where it was interrupted: texts and sums lie in a hidden folder beside the output."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..bridges.sums import LayerSums
from ..engine.path_model import PathModel
from ..store.files import put
from .states import add_texts
from .text import Piece, Texts

SAVE_EVERY_S = 60.0
TEXTS_NAME, SUMS_NAME = "texts.json", "sums.safetensors"


class PartialFit:
    """The state of an unfinished fit.

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

    def sums(self, num_layers: int, width: int) -> tuple[list[LayerSums], int]:
        """The stored sums of each layer, and the number of batches in them; empty ones without any."""
        empty = [LayerSums.empty(width) for _ in range(num_layers)]
        try:
            with safe_open(self.folder / SUMS_NAME, framework="pt") as file:
                counts = json.loads(file.metadata()["counts"])
                stored = [
                    LayerSums(file.get_tensor(f"{layer}.gram"), file.get_tensor(f"{layer}.cross"), counts[layer])
                    for layer in range(num_layers)
                ]
                return stored, int(file.metadata()["batches"])
        except (OSError, SafetensorError, ValueError, KeyError, IndexError):
            return empty, 0

    def keep(self, sums: Sequence[LayerSums], batches: int) -> None:
        """Store the sums over the first batches.

        Raises:
            PathgenError: the disk is full, for example.
        """
        tensors = {f"{layer}.gram": one.gram for layer, one in enumerate(sums)}
        tensors |= {f"{layer}.cross": one.cross for layer, one in enumerate(sums)}
        counts = json.dumps([one.tokens for one in sums])
        self._put(SUMS_NAME, save(tensors, {"batches": str(batches), "counts": counts}))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _put(self, name: str, content: bytes) -> None:
        put(self._fs, str(self.folder / name), content)


def summed(
    model: PathModel,
    batches: Sequence[Sequence[Piece]],
    partial: PartialFit,
    on_tokens: Callable[[int, bool], None] = lambda tokens, now: None,
) -> list[LayerSums]:
    """The sums of every layer over all batches; an interrupted pass continues.

    `on_tokens` gets the tokens of each batch, and whether they ran now.
    """
    sums, done = partial.sums(model.num_layers, model.config.hidden_size)
    on_tokens(sum(len(piece) for batch in batches[:done] for piece in batch), False)
    kept_at = time.monotonic()
    for number, batch in enumerate(batches[done:], start=done + 1):
        add_texts(model, batch, sums)
        on_tokens(sum(map(len, batch)), True)
        if time.monotonic() - kept_at > SAVE_EVERY_S or number == len(batches):
            partial.keep(sums, number)
            kept_at = time.monotonic()
    return sums
