"""The states that reach and leave each layer of a frozen model, summed layer by layer over a group of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

BATCH_TOKENS = {"cpu": 512, "cuda": 16384}
"""Most tokens of one forward, padding included, by device type: few on a CPU, where all of it stays in the cache."""
GROUP_TOKENS = 4096
"""Tokens that pass a layer together, in one or more batches, and enter its sums as one product."""

Batch = list[Piece]
Group = list[Batch]


def batches_of(model: PathModel, pieces: Sequence[Piece]) -> list[Batch]:
    """Batches of pieces of similar length, in an order that the pieces decide."""
    limit = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
    return [
        [pieces[i] for i in batch] for batch in row_batches([len(piece) for piece in pieces], limit, model.restrictions)
    ]


def groups_of(model: PathModel, pieces: Sequence[Piece]) -> list[Group]:
    """The batches of pieces, in their order, in groups of at least GROUP_TOKENS tokens, the last one excepted."""
    return list(_grouped(batches_of(model, pieces)))


def tokens_of(group: Group) -> int:
    """Number of tokens of a group."""
    return sum(len(piece) for batch in group for piece in batch)


def batch_inputs(model: PathModel, pieces: Sequence[Piece]) -> tuple[dict[str, Any], Tensor]:
    """The arguments of a forward over pieces, padded on the right, and which of its tokens [B, T] are text."""
    ids, mask = masked(pieces, model.device)
    return forward_inputs(ids, mask), mask.bool()


def add_texts(model: PathModel, group: Group, sums: Sequence[LayerSums]) -> None:
    """Run one group at full depth, and add its states to the sums of each layer.

    Raises:
        PathgenError: a state is not finite; the message names the layer. The sums are of no use then.
    """

    def add(layer: int, before: Tensor, after: Tensor) -> None:
        try:
            sums[layer].add(before, after)
        except ValueError as error:
            raise PathgenError(f"layer {layer}, a text of {len(group[0][0])} tokens: {error}") from error

    _watch(model, group, add)


def explained(model: PathModel, groups: Sequence[Group], bridges: Sequence[Bridge]) -> list[float]:
    """[L] R² of each bridge on the states of full depth: the share of the layer's changes that it explains.

    Tokens that a fit leaves out are left out here too.
    """
    parts = [Residuals() for _ in bridges]
    for group in groups:
        _watch(model, group, lambda layer, before, after: parts[layer].add(bridges[layer], before, after))
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


def _grouped(batches: Sequence[Batch]) -> Iterator[Group]:
    group: Group = []
    for batch in batches:
        group.append(batch)
        if tokens_of(group) >= GROUP_TOKENS:
            yield group
            group = []
    if group:
        yield group


@torch.inference_mode()
def _watch(model: PathModel, group: Group, see: Callable[[int, Tensor, Tensor], None]) -> None:
    """Show the [n, H] states of all text tokens before and after each layer, at full depth.

    All batches pass one layer before the next one, so its weights are read from memory once, and what leaves a layer
    is what reaches the next.
    """
    inputs = [batch_inputs(model, pieces) for pieces in group]
    started = [model.capture(**given) for given, _ in inputs]
    states = [hidden for hidden, _ in started]

    def text() -> Tensor:
        parts = [hidden[tokens.to(hidden.device)] for hidden, (_, tokens) in zip(states, inputs, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    before = text()
    for layer in range(model.num_layers):
        for place, (_, calls) in enumerate(started):
            states[place] = model.run_layer(layer, states[place], *calls[layer])
        after = text()
        see(layer, before.to(after.device), after)
        before = after
