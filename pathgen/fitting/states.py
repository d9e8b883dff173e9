"""The states that reach and leave each layer of a frozen model, summed as a forward runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bridges.maps import Bridge
from ..bridges.sums import LayerSums
from ..engine.padded_rows import masked
from ..engine.path_model import PathModel, forward_inputs
from ..errors import PathgenError
from ..evaluation.batching import row_batches
from .text import Piece

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Most tokens of one forward, padding included, by device type."""


def batches_of(model: PathModel, pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Batches of pieces of similar length, in an order that the pieces decide."""
    limit = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
    return [
        [pieces[i] for i in batch] for batch in row_batches([len(piece) for piece in pieces], limit, model.restrictions)
    ]


def batch_inputs(model: PathModel, pieces: Sequence[Piece]) -> tuple[dict[str, Any], Tensor]:
    """The arguments of a forward over pieces, padded on the right, and which of its tokens [B, T] are text."""
    ids, mask = masked(pieces, model.device)
    return forward_inputs(ids, mask), mask.bool()


@torch.inference_mode()
def add_texts(model: PathModel, pieces: Sequence[Piece], sums: Sequence[LayerSums]) -> None:
    """Run one batch at full depth, and add its states to the sums of each layer.

    Raises:
        PathgenError: a state is not finite; the message names the layer.
    """

    def add(layer: int, before: Tensor, after: Tensor) -> None:
        try:
            sums[layer].add(before, after)
        except ValueError as error:
            raise PathgenError(f"layer {layer}, a text of {len(pieces[0])} tokens: {error}") from error

    _watch(model, pieces, add)


@torch.inference_mode()
def explained(model: PathModel, batches: Sequence[Sequence[Piece]], bridges: Sequence[Bridge]) -> list[float]:
    """[L] R² of each bridge on the states of full depth: the share of the layer's changes that it explains.

    Tokens that a fit leaves out are left out here too.
    """
    parts = [Residuals() for _ in bridges]
    for pieces in batches:
        _watch(model, pieces, lambda layer, before, after: parts[layer].add(bridges[layer], before, after))
    return [part.r2 for part in parts]


class Residuals:
    """Squared errors of a bridge, and squared changes around their mean, over tokens."""

    def __init__(self) -> None:
        self._error = self._square = 0.0
        self._sum: Tensor | None = None
        self._tokens = 0

    def add(self, bridge: Bridge, before: Tensor, after: Tensor) -> None:
        """Add tokens: [n, H] states before, and those that the bridge should give."""
        change = (after - before).float()
        usual = LayerSums.usual(change)
        change = change[usual]
        told = (bridge.to(before.device, before.dtype).apply(before) - before).float()[usual]
        self._error += float((change - told).double().square().sum())
        self._square += float(change.double().square().sum())
        total = change.double().sum(0).cpu()
        self._sum = total if self._sum is None else self._sum + total
        self._tokens += len(change)

    @property
    def r2(self) -> float:
        """1 - error / variance; 0 without tokens or variance."""
        if self._sum is None:
            return 0.0
        spread = self._square - float(self._sum.square().sum()) / self._tokens
        return 1 - self._error / spread if spread > 0 else 0.0


def _watch(model: PathModel, pieces: Sequence[Piece], see: Callable[[int, Tensor, Tensor], None]) -> None:
    """Show the [n, H] states of all text tokens before and after each layer, at full depth."""
    inputs, tokens = batch_inputs(model, pieces)

    def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        after = model.run_layer(index, hidden, args, kwargs)
        see(index, hidden[tokens.to(hidden.device)], after[tokens.to(after.device)].to(hidden.device))
        return model.as_returned(index, after)

    with model.mode(watch):
        model.run_body(**inputs)
