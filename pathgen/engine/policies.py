"""The policies: fixed paths, and the record of another policy's decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from ..paths.layer_path import LayerPath


class LayerPolicy(Protocol):
    """Decides, layer by layer, which action each row of a batch takes."""

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


class RecordedPolicy:
    """Records the decisions of another policy."""

    def __init__(self, policy: LayerPolicy):
        self._policy = policy
        self._taken: list[Tensor] = []

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] the actions of the recorded policy."""
        taken = self._policy.actions(layer, hidden, prompt_mask)
        self._taken.append(taken)
        return taken

    def paths(self) -> list[LayerPath]:
        """One path per row, after the forward; this is the only read-back from the device."""
        table = torch.stack([taken.to(self._taken[-1].device) for taken in self._taken], dim=1)
        return [LayerPath(row) for row in table.tolist()]
