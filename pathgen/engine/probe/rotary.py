"""The length at which a model's rotary table changes, found by comparing the tables themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BEYOND = 16
"""Tokens past the border at which the table is read again: does it change with every further token?"""


def rope_border(hf_model: nn.Module) -> tuple[int | None, bool]:
    """(tokens up to which the original table holds, whether one table holds beyond); (None, True) without a border.

    Only the tables are computed, at a few positions. Where several differ, the shortest border counts.
    """
    borders: list[tuple[int, bool]] = []
    for module in hf_model.modules():
        types = getattr(module, "rope_type", None)
        for kind, rope_type in types.items() if isinstance(types, dict) else [(None, types)]:
            if isinstance(rope_type, str) and ("dynamic" in rope_type or rope_type == "longrope"):
                borders += _border(module, rope_type, kind)
    if not borders:
        return None, True
    return min(border for border, _ in borders), all(same for _, same in borders)


def _border(rotary: Any, rope_type: str, kind: str | None) -> list[tuple[int, bool]]:
    parameters = rotary.config.rope_parameters if kind is None else rotary.config.rope_parameters[kind]
    length = parameters.get("original_max_position_embeddings") if rope_type == "longrope" else None
    border = int(length or rotary.original_max_seq_len)
    within, past, further = (_table(rotary, kind, tokens) for tokens in (border, border + 1, border + BEYOND))
    _table(rotary, kind, 2)  # a dynamic table goes back to the original one
    return [] if torch.equal(within, past) else [(border, torch.equal(past, further))]


def _table(rotary: Any, kind: str | None, tokens: int) -> Tensor:
    """The table at positions 0 and 1, computed beside a row that ends at `tokens`."""
    states = torch.zeros(1, dtype=torch.float32, device=rotary.inv_freq.device if kind is None else None)
    if kind is not None:
        states = states.to(getattr(rotary, f"{kind}_inv_freq").device)
    positions = torch.tensor([[0, 1, tokens - 1]], device=states.device)
    found = rotary(states, positions) if kind is None else rotary(states, positions, kind)
    parts = found if isinstance(found, tuple) else (found,)
    return torch.cat([torch.view_as_real(part).flatten(2) if part.is_complex() else part for part in parts], -1)[:, :2]
