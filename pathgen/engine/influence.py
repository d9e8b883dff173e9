"""How much each layer changes a row's states: measured while the full path runs, and for nothing beside it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from .sharing import StateKey
from .token_rows import Row


class InfluenceMeter:
    """Watches the layers of one call, and keeps the influence of each on the rows whose full path runs.

    The influence of consecutive layers is 1 − the cosine of a token's state before and after them, averaged over the
    prompt: block influence (ShortGPT, arXiv 2403.03853, section 3.1), of one layer and of two. With `from_end` rows are
    padded on the left.
    """

    def __init__(self, rows: Mapping[Hashable, Row], num_layers: int, from_end: bool = False):
        self._rows, self._num_layers, self._from_end = rows, num_layers, from_end
        self._before: dict[Hashable, list[Tensor]] = {key: [] for key in rows}
        self._ones: dict[Hashable, list[Tensor]] = {key: [] for key in rows}
        self._twos: dict[Hashable, list[Tensor]] = {key: [] for key in rows}

    def watch(self, layer: int, states: Sequence[StateKey], before: Tensor, after: Tensor) -> None:
        """Note one call of a layer: its states [n, T, H] before and after."""
        for index, (key, executions) in enumerate(states if self._rows else ()):
            if key not in self._rows or len(executions) != layer + 1 or len(self._ones[key]) != layer:
                continue  # not on the full path, or not all of it in this call
            tokens = self._rows[key].prompt_tokens
            prompt = slice(after.shape[1] - tokens, None) if self._from_end else slice(tokens)
            first, then, earlier = before[index, prompt], after[index, prompt], self._before[key]
            self._ones[key].append(_change(first, then))
            if earlier:
                self._twos[key].append(_change(earlier.pop().to(then.device), then))
            earlier.append(first)

    def found(self) -> dict[Hashable, tuple[float, ...]]:
        """Per row, the influences of the L single layers, then of the L - 1 pairs; one read-back from the device."""
        whole = {key: ones for key, ones in self._ones.items() if len(ones) == self._num_layers}
        return {
            key: tuple(torch.stack([part.to(ones[0].device) for part in (*ones, *self._twos[key])]).tolist())
            for key, ones in whole.items()
        }


def _change(before: Tensor, after: Tensor) -> Tensor:
    return 1 - torch.cosine_similarity(before.float(), after.float(), dim=-1).mean()
