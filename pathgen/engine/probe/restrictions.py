"""How the rows of a model may share a batch, as found when it was wrapped, and the check of every forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError

RowKind = tuple[bool, int]
"""Rows of different kinds never share a batch."""
ROPE_CHANGES, KEYS_ARE_PICKED = "its rotary table changes", "its indexers begin to leave out keys"


class MixedRowsError(InputError, ValueError):
    """Rows that a model cannot run together, or a row that crosses the border of its rotary table."""


@dataclass(frozen=True, slots=True)
class Restrictions:
    """What holds for a model's batches beyond what holds for all.

    Attributes:
        name: the model's class, for messages.
        position_offset: the model's own number of the first position; 0 for most.
        border: tokens up to which the rotary table is the original one, or indexers pick all keys; None: any length.
        past_border: whether rows longer than that run: False where the table changes with every further token, and
            where keys are picked: the other rows of a batch may turn the choice between equal scores.
        border_is: what happens at the border, for messages.
        one_length: padding on the left moves the model's positions: uncached rows are padded on the right, and rows
            that continue from a cache have one length.
        own_positions: it counts positions by itself alone, so none are given.
        own_rows: layers do not broadcast the arguments of one row to several states.
        single_steps: from a stored state, layers go on by one token at a time: each continuation of a prompt is a row
            of its own (Jamba starts its recurrence anew for several tokens).
    """

    name: str
    position_offset: int = 0
    border: int | None = None
    past_border: bool = True
    border_is: str = ROPE_CHANGES
    one_length: bool = False
    own_positions: bool = False
    own_rows: bool = False
    single_steps: bool = False

    def kind(self, tokens: int, *, decodes: bool = False) -> RowKind:
        """The kind of a row of so many tokens; `decodes`: it continues from a cache."""
        past = self.border is not None and tokens > self.border
        return past, tokens if self.one_length and decodes else 0

    @property
    def checked(self) -> bool:
        """Whether forwards have anything to check or to change."""
        return bool(self.position_offset or self.one_length or self.border is not None)

    def told(self) -> list[str]:
        """One line for each restriction that a user meets."""
        lines = []
        if self.one_length:
            lines.append("padding on the left moves its positions: prompts that generate together have one length")
        if self.border is not None and self.past_border:
            lines.append(f"rows of up to {self.border} tokens and longer ones never share a batch")
        if self.border is not None and not self.past_border:
            lines.append(f"rows end at {self.border} tokens: there {self.border_is}")
        return lines

    def check_room(self, lengths: Tensor, new_tokens: int) -> None:
        """Refuse to generate `new_tokens` after prompts of these lengths [B] if one would cross the border."""
        border = self.border
        if border is None:
            return
        shortest, longest = int(lengths.min()), int(lengths.max())
        if longest <= border < longest + new_tokens:
            raise MixedRowsError(
                f"{self.name}: a prompt of {longest} tokens and {new_tokens} new ones cross {border} tokens, where "
                f"{self.border_is}; give max_new_tokens of at most {border - longest}"
            )
        if shortest <= border < longest or (longest > border and not self.past_border):
            self._refuse_border(shortest, longest)

    def inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a forward, with the model's own positions; None where it counts them itself.

        Raises:
            MixedRowsError: its rows cannot run together.
        """
        positions = given.get("position_ids")
        mask = given.get("attention_mask")
        ids = given.get("input_ids")
        held = given.get("past_key_values")
        if self.one_length and isinstance(mask, Tensor) and mask.dim() == 2 and ids is not None:
            self._check_padding(mask, ids.shape[1])
        if self.border is not None and (positions is not None or ids is not None):
            before = 0 if held is None else int(held.get_seq_length())
            self._check_border(positions, mask, ids, before)
        if self.own_positions and positions is not None:
            return {**given, "position_ids": None}
        if self.position_offset and positions is not None:
            return {**given, "position_ids": positions + self.position_offset}
        return given

    def _check_padding(self, mask: Tensor, tokens: int) -> None:
        if mask.shape[1] == tokens and not bool(mask[:, 0].all()):
            raise MixedRowsError(
                f"{self.name}: padding on the left moves its positions: pad on the right, or generate from "
                "prompts of one length at a time"
            )
        if mask.shape[1] > tokens and not bool(mask.all()):
            raise MixedRowsError(
                f"{self.name}: padding moves its positions; rows that generate together must have one length: "
                "run prompts of each length by themselves, or one at a time"
            )

    def _check_border(self, positions: Tensor | None, mask: Any, ids: Tensor | None, before: int) -> None:
        assert self.border is not None
        if positions is not None:
            lengths = positions.amax(-1).flatten() + 1
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            lengths = mask.sum(-1)
        else:
            assert ids is not None
            lengths = torch.tensor([before + ids.shape[1]])
        shortest, longest = int(lengths.min()), int(lengths.max())
        if longest <= self.border:
            return
        started = shortest - (ids.shape[1] if ids is not None else 1) if before else shortest
        if min(started, shortest) <= self.border or not self.past_border:
            self._refuse_border(shortest, longest)

    def _refuse_border(self, shortest: int, longest: int) -> None:
        what = f"rows of {shortest} to {longest} tokens" if shortest < longest else f"a row of {longest} tokens"
        right = (
            "keep each row on one side of it, and rows of each side in batches of their own"
            if self.past_border
            else f"keep rows within {self.border} tokens"
        )
        raise MixedRowsError(
            f"{self.name}: {what}; {self.border_is} at {self.border} tokens, and one row would change "
            f"the others or its own first keys: {right}"
        )
