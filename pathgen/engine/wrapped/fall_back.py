"""Rows that a cheap path leaves unsure run on at full depth, from where the path first leaves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..cache import RoutedCache
from ..policies import Unsure
from ..supported import take_rows

if TYPE_CHECKING:
    from .bridged_model import BridgedModel


@dataclass(slots=True, eq=False)
class Fork:
    """Where a forward first leaves full depth, and what it takes to run the layers from there again.

    Attributes:
        layer: the first that a row does not execute once.
        states: [B, T, H] that enter it.
        calls: (args, kwargs) of it and of the layers after it.
    """

    layer: int
    states: Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def settled(
        self, model: BridgedModel, last: Tensor, prompt_mask: Tensor, unsure: Unsure, cache: RoutedCache | None
    ) -> Tensor:
        """[B, T, H] the last layer's states, of full depth where the path's next token after the prompt is unsure.

        Reads back from the device once. The cache then holds full depth's slots for these rows.
        """
        count = len(prompt_mask)
        copies = len(last) // count  # beams
        steps = torch.arange(1, prompt_mask.shape[1] + 1, device=prompt_mask.device)
        ends = (prompt_mask * steps).argmax(1).to(last.device)
        doubted = unsure(model.head(last[::copies][torch.arange(count, device=last.device), ends])).cpu()
        rows = doubted.repeat_interleave(copies).nonzero()[:, 0]
        if not len(rows):
            return last
        states = self.states[rows.to(self.states.device)]
        for layer, (args, kwargs) in enumerate(self.calls, start=self.layer):
            some_args, some_kwargs = take_rows((args, kwargs), rows, len(last), model.row_axes)
            if cache is not None:
                cache.set_aside(layer, rows)
            states = model.run_layer(layer, states, some_args, some_kwargs)
            if cache is not None:
                cache.put_back(layer, rows)
        return last.index_copy(0, rows.to(last.device), states.to(last.device))
