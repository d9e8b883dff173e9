"""The policies: fixed paths, a cascade, and the record of another policy's decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..paths.layer_path import LayerAction, LayerPath

Unsure = Callable[[Tensor], Tensor]
"""[B, V] float32 logits of the token after each prompt -> [B] whether a row goes on at full depth."""


class LayerPolicy(Protocol):
    """Decides, layer by layer, which action each row of a batch takes.

    A policy with an attribute `unsure` is asked once more after the last layer of the prefill: where that says so, the
    row executes every layer once instead, from the first one on that it did not (`wrapped/fall_back.py`).
    """

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] integers on any device: one LayerAction per row, for the whole sequence.

        Called once per layer, at prefill, with the layer's input `hidden` [B, T, H]. `prompt_mask` [B, T] is 1 for
        prompt tokens, 0 for padding.
        """
        ...


class FixedPaths:
    """Row r of the batch takes `paths[r]`: the policy of search, replay and static paths."""

    def __init__(self, paths: Iterable[LayerPath]):
        rows = [LayerPath(path) for path in paths]
        if len({len(path) for path in rows}) != 1:
            raise ValueError("all paths of a batch must have one action per layer of the same model")
        self.table = torch.tensor(rows, dtype=torch.int64)  # [B, L], on the CPU, so no device is read back

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the paths' actions at this layer; ValueError unless there is one path per row."""
        if len(self.table) != hidden.shape[0]:
            raise ValueError(f"{len(self.table)} paths for a batch of {hidden.shape[0]} rows")
        return self.table[:, layer]


class Cascade:
    """One path for all rows, and full depth for those whose next token it leaves unsure.

    Args:
        path: runs first.
        gap: in nats; a row falls back to full depth where its likeliest next token is less than this ahead of the
            second one. Logits that are not finite fall back.
    """

    def __init__(self, path: LayerPath, gap: float):
        self.path, self.gap = LayerPath(path), gap

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the path's action at this layer."""
        return torch.full((len(hidden),), int(self.path[layer]))

    @property
    def fork(self) -> int:
        """The first layer that the path does not execute once; the number of layers without one."""
        edits = (layer for layer, action in enumerate(self.path) if action != LayerAction.EXECUTE)
        return next(edits, len(self.path))

    def depth(self, path: LayerPath) -> int:
        """Layer executions of a prompt that ends on this path; where it fell back, those of both from the fork on."""
        return path.depth if path == self.path else self.path.depth + len(path) - self.fork

    def unsure(self, logits: Tensor) -> Tensor:
        """[B] whether the two likeliest of [B, V] next tokens are less than the gap apart."""
        return ~(next_token_gaps(logits) >= self.gap)


def next_token_gaps(logits: Tensor) -> Tensor:
    """[B] log-probability of the likeliest token minus that of the second one, in nats, of [B, V] logits."""
    best, second = logits.topk(2, dim=-1).values.unbind(-1)
    return best - second


class RecordedPolicy:
    """Records the decisions of another policy.

    Attributes:
        unsure: as the other policy's; None if it has none.
    """

    def __init__(self, policy: LayerPolicy):
        self._policy = policy
        self._taken: list[Tensor] = []
        self._fell_back: Tensor | None = None
        asked: Unsure | None = getattr(policy, "unsure", None)
        self.unsure: Unsure | None = None if asked is None else partial(self._doubted, asked)

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the actions of the recorded policy."""
        taken = self._policy.actions(layer, hidden, prompt_mask)
        self._taken.append(taken)
        return taken

    def _doubted(self, asked: Unsure, logits: Tensor) -> Tensor:
        self._fell_back = asked(logits)
        return self._fell_back

    def paths(self) -> list[LayerPath]:
        """One path per row, after the forward; this is the only read-back from the device."""
        table = torch.stack([taken.to(self._taken[-1].device) for taken in self._taken], dim=1)
        if self._fell_back is not None:
            table = table.masked_fill(self._fell_back[:, None].to(table.device), int(LayerAction.EXECUTE))
        return [LayerPath(row) for row in table.tolist()]
