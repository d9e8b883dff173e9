"""The check of an export: the folder, loaded by plain transformers, against the model along the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.errors import InputError
from pathgen.models.reading import load_weights
from pathgen.paths.layer_path import LayerPath

from .divergence import kl
from .folded_path import Fold, folded_logits

TEXT = (
    "The sun rose over the harbour, and the fishing boats came back one after another with the catch of the night.",
    "Question: Which of these floats on water: a cork, an iron nail, a stone or a spoon of lead?\nAnswer: a cork",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total",
    "12 + 30 = 42, and 7 * 6 = 42 too. 1, 1, 2, 3, 5, 8, 13, 21, 34, 55",
)
"""The built-in text, one row each."""
MOST_TOKENS = 96
"""Of a row."""
NARROW_WINDOW = 8
"""Tokens: models with a sliding window are compared with this one too, since no row is longer than their own."""
TOLERANCE = 1e-4
"""Largest accepted gap of float32 logits, relative to the largest logit (or to 1 if all are smaller)."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the model gives along the path, in float32 on the CPU.

    Attributes:
        rows: [1, T] token ids.
        logits: [T, V] per row, for the published window and, if there is one, for the narrow one.
        divergence: mean Kullback–Leibler divergence of the path from full depth, in nats per position.
    """

    rows: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
    divergence: float


@dataclass(frozen=True, slots=True)
class Parity:
    """A folder that gives the path's logits.

    Attributes:
        max_logit_gap: largest difference of a logit on the built-in text.
        parameters: number of weights of the loaded model; tied ones count once.
    """

    max_logit_gap: float
    parameters: int


def run_along(model: PathModel, path: LayerPath, folds: Mapping[int, Fold] = {}) -> Reference:
    """The logits of the built-in text along a path, and how far they are from full depth.

    Args:
        model: the base model.
        path: one action per layer.
        folds: output matrices by layer, in the place of the layer's own.

    Raises:
        InputError: the tokenizer gives a row no tokens.
    """
    assert model.tokenizer is not None
    length = min(MOST_TOKENS, getattr(model.config, "max_position_embeddings", None) or MOST_TOKENS)
    encoded = [model.tokenizer(text)["input_ids"][:length] for text in TEXT]
    rows = tuple(torch.tensor([ids]) for ids in encoded if ids)
    if not rows:
        raise InputError("its tokenizer gives no tokens for the built-in text")

    def along(wanted: LayerPath) -> Callable[[Tensor], Tensor]:
        policy = FixedPaths([wanted])
        return lambda ids: model.logits(ids, policy=policy)

    def exported(ids: Tensor) -> Tensor:
        return folded_logits(model, path, folds, ids)

    logits = _all_logits(exported if folds else along(path), model.config, rows)
    full = map(along(LayerPath.full(len(path))), rows)
    apart = [kl(whole[0], own) for whole, own in zip(full, logits, strict=False)]  # the published window only
    return Reference(rows, tuple(logits), float(torch.cat(apart).mean()))


def check_folder(folder: Path, reference: Reference) -> Parity:
    """Load a folder as anyone would, and compare its logits.

    Raises:
        InputError: it does not load, or gives other logits.
    """
    model: Any = load_weights(folder, dtype=torch.float32, use_safetensors=True).eval()
    with torch.inference_mode():
        found = _all_logits(lambda ids: model(input_ids=ids, use_cache=False).logits, model.config, reference.rows)
    pairs = list(zip(found, reference.logits, strict=True))
    gap = max(float((own - wanted).abs().max()) for own, wanted in pairs)
    scale = max(1.0, *(float(wanted.abs().max()) for wanted in reference.logits))
    if not gap <= TOLERANCE * scale:  # also for NaN
        raise InputError(
            f"its logits would differ by {gap:.2g} from those along the path (accepted: {TOLERANCE * scale:.2g}), so "
            "some layer does other work in another place"
        )
    return Parity(gap, sum(parameter.numel() for parameter in model.parameters()))


def _all_logits(forward: Callable[[Tensor], Tensor], config: Any, rows: tuple[Tensor, ...]) -> list[Tensor]:
    """[T, V] logits of each row, then again with a narrow window if the model has a sliding one."""
    found = [forward(row)[0] for row in rows]
    if getattr(config, "sliding_window", None):
        with _narrow(config):
            found += [forward(row)[0] for row in rows]
    return found


@contextmanager
def _narrow(config: Any) -> Iterator[None]:
    """Within the block, sliding windows, which masks take from the config at each forward, are NARROW_WINDOW wide."""
    before = config.sliding_window
    config.sliding_window = min(before, NARROW_WINDOW)
    try:
        yield
    finally:
        config.sliding_window = before
