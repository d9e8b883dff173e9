"""Token rows as the engine evaluates them: a prompt with its continuations, packed into one row or one row each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROMPT = -1
"""Branch of a token that belongs to the prompt; continuation c has branch c."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of tokens and what is to be scored in it.

    Attributes:
        key: identifies the row (and so its hidden states) across calls.
        ids: [T] token ids.
        positions: [T] position ids; each continuation counts on from the prompt's end.
        branch: [T] PROMPT or the continuation a token belongs to. A token sees the prompt and its own branch.
        scored: [S] indices of the tokens whose logits are needed, each once.
        predicts: [K] for each continuation token, which entry of `scored` predicts it.
        targets: [K] the continuation tokens.
        owners: [K] the continuation (choice) each belongs to.
    """

    key: Hashable
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    branch: NDArray[np.int64]
    scored: NDArray[np.int64]
    predicts: NDArray[np.int64]
    targets: NDArray[np.int64]
    owners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_tokens(self) -> int:
        """How many of its tokens, the first ones, are the prompt's."""
        return int((self.branch == PROMPT).sum())

    def visible(self, window: int | None) -> NDArray[np.bool_]:
        """[T, T] the tree mask: query row, key column; `window` limits the distance in positions."""
        distance = self.positions[:, None] - self.positions[None, :]
        causal = np.tri(len(self), dtype=bool)
        kin = (self.branch[None, :] == PROMPT) | (self.branch[None, :] == self.branch[:, None])
        near = distance < window if window else np.True_
        return causal & kin & near


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What several rows score, one row after another.

    Attributes:
        rows: [N] index of the row of each scored token.
        tokens: [N] index of the token in its row.
        predicts: [K] which of the N tokens predicts each continuation token.
        targets: [K] the continuation tokens.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    predicts: NDArray[np.int64]
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Targets:
        """Of these rows, in their order."""
        counts = [len(row.scored) for row in rows]
        starts = np.cumsum([0, *counts[:-1]])
        return cls(
            rows=np.repeat(np.arange(len(rows)), counts),
            tokens=np.concatenate([row.scored for row in rows]),
            predicts=np.concatenate([row.predicts + start for row, start in zip(rows, starts, strict=True)]),
            targets=np.concatenate([row.targets for row in rows]),
        )


def packed_row(key: Hashable, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Row:
    """The prompt once, then every continuation, for attention under a tree mask."""
    return _row(key, prompt, list(enumerate(continuations)))


def plain_rows(key: Hashable, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[Row]:
    """One ordinary causal row per continuation."""
    return [_row((key, c), prompt, [(c, tokens)]) for c, tokens in enumerate(continuations)]


def _row(key: Hashable, prompt: Sequence[int], owned: Sequence[tuple[int, Sequence[int]]]) -> Row:
    start = len(prompt)
    ids, positions, branch = list(prompt), list(range(start)), [PROMPT] * start
    predictors: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for owner, tokens in owned:
        for offset, token in enumerate(tokens):
            predictors.append(start - 1 if offset == 0 else len(ids) - 1)
            targets.append(token)
            owners.append(owner)
            if offset < len(tokens) - 1:  # the last token predicts nothing, so it need not be run
                ids.append(token)
                positions.append(start + offset)
                branch.append(owner)
    scored, predicts = np.unique(np.array(predictors, dtype=np.int64), return_inverse=True)
    return Row(
        key,
        ids=np.array(ids, dtype=np.int64),
        positions=np.array(positions, dtype=np.int64),
        branch=np.array(branch, dtype=np.int64),
        scored=scored,
        predicts=predicts,
        targets=np.array(targets, dtype=np.int64),
        owners=np.array(owners, dtype=np.int64),
    )
