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
    """One row of tokens, and which of them are scored.

    Attributes:
        key: identifies the row (and so its hidden states) across calls.
        stem_key: the same for the row's stem: its prompt without the last token, which rows of one prompt share.
        ids: [T] token ids.
        positions: [T] position ids; each continuation counts from the prompt's end.
        branch: [T] PROMPT or the token's continuation. A token sees the prompt and its own branch.
        scored: [S] indices of the tokens whose logits are needed, each once.
        predicts: [K] for each continuation token, the entry of `scored` that predicts it.
        targets: [K] the continuation tokens.
        owners: [K] the continuation (choice) of each target.
    """

    key: Hashable
    stem_key: Hashable
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
        """Number of prompt tokens; they come first."""
        return int((self.branch == PROMPT).sum())

    def visible(self, window: int | None) -> NDArray[np.bool_]:
        """[T, T] the tree mask: query row, key column; `window` limits the distance in positions."""
        seen = np.tri(len(self), dtype=bool) & ((self.branch == PROMPT) | (self.branch == self.branch[:, None]))
        return seen & (self.positions[:, None] - self.positions < window) if window else seen


def scored_positions(rows: Sequence[Row]) -> tuple[NDArray[np.int64], ...]:
    """The scored positions of all rows, one row after another.

    Returns:
        [N] the row and [N] the token of each scored position; [K] the position, 0 to N - 1, that predicts each
        target, and [K] the targets.
    """
    counts = [len(row.scored) for row in rows]
    starts = np.cumsum([0, *counts[:-1]])
    return (
        np.repeat(np.arange(len(rows)), counts),
        np.concatenate([row.scored for row in rows]),
        np.concatenate([row.predicts + start for row, start in zip(rows, starts, strict=True)]),
        np.concatenate([row.targets for row in rows]),
    )


def packed_row(key: Hashable, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> Row:
    """The prompt once, then every continuation, for attention under a tree mask."""
    return _row(key, key, prompt, list(enumerate(continuations)))


def plain_rows(key: Hashable, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[Row]:
    """One ordinary causal row per continuation."""
    return [_row((key, c), key, prompt, [(c, tokens)]) for c, tokens in enumerate(continuations)]


def _row(key: Hashable, source: Hashable, prompt: Sequence[int], owned: Sequence[tuple[int, Sequence[int]]]) -> Row:
    start = len(prompt)
    ids, positions, branch = list(prompt), list(range(start)), [PROMPT] * start
    predictors: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for owner, tokens in owned:
        run = len(tokens) - 1  # the last token predicts nothing, so it is not run
        if tokens:
            predictors += [start - 1, *range(len(ids), len(ids) + run)]
        targets += tokens
        owners += [owner] * len(tokens)
        ids += tokens[:run]
        positions += range(start, start + run)
        branch += [owner] * run
    scored, predicts = np.unique(np.array(predictors, dtype=np.int64), return_inverse=True)
    lists = {"ids": ids, "positions": positions, "branch": branch, "targets": targets, "owners": owners}
    arrays = {name: np.array(values, dtype=np.int64) for name, values in lists.items()}
    return Row(key, (source, PROMPT), scored=scored, predicts=predicts, **arrays)
