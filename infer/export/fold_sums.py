"""The least-squares problem of a fold: the change of an output matrix that gives what skipped layers would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from pathgen.bridges.sums import OUTLIER, with_one

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Weights of the penalty to choose from, relative to the mean diagonal of the features' sums."""
Form = Literal["free", "after"]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What is added to an output matrix.

    Attributes:
        weight: [H, I], float64.
        bias: [H]; None where the module has none.
        form: `free` (any matrix), or `after` (a map T of the old output, so the new matrix is (1 + T)·W, as in
            ReplaceMe, arXiv 2505.02819).
        ridge: weight of the penalty.
        error: share of the wanted changes that it misses on tokens that it was not fitted on, in squares.
        tokens: number of tokens that it was fitted on.
    """

    weight: Tensor
    bias: Tensor | None
    form: Form
    ridge: float
    error: float
    tokens: int


@dataclass(slots=True, eq=False)
class FoldSums:
    """Sums over tokens, in float64 on the CPU; I is the MLP's inner width, H the width of a state.

    Attributes:
        gram: [F, F] of the features: the inner activation m and, with a bias, a one. F is I or I + 1.
        cross: [F, H] of the features with the wanted changes.
        bias: whether the last feature is a one.
        size: sum of the squares of the wanted changes.
        tokens: number of tokens in the sums.
    """

    gram: Tensor
    cross: Tensor
    bias: bool
    size: float = 0.0
    tokens: int = 0

    @classmethod
    def empty(cls, inner: int, width: int, *, bias: bool) -> Self:
        """No tokens yet."""
        features = inner + bias
        zeros = torch.zeros(features, features + width, dtype=torch.float64)
        return cls(zeros[:, :features].clone(), zeros[:, features:].clone(), bias)

    def add(self, inner: Tensor, change: Tensor) -> None:
        """Add tokens: [n, I] inner activations, and the [n, H] changes that are wanted from them.

        A token that is more than OUTLIER times as large as the median is scaled down to the median: alone it would
        decide the fit, and left out it would be given anything at all.

        Raises:
            ValueError: a value is not finite.
        """
        inner, change = inner.float(), change.float()
        sizes = torch.stack([inner.norm(dim=-1), change.norm(dim=-1)])
        if not bool(sizes.isfinite().all()):
            raise ValueError("a state is not a finite number")
        times = (sizes / sizes.median(dim=-1, keepdim=True).values.clamp(min=1e-30)).amax(0)
        scale = torch.where(times < OUTLIER, 1.0, 1 / times)[:, None]
        features = (with_one(inner) if self.bias else inner) * scale
        change = change * scale
        self.gram += (features.T @ features).double().cpu()
        self.cross += (features.T @ change).double().cpu()
        self.size += float(change.double().square().sum())
        self.tokens += len(change)

    def best_change(self, weight: Tensor, held_out: FoldSums) -> Change:
        """The form and penalty that miss the least on other tokens.

        Args:
            weight: [H, I] of the output matrix as it is.
            held_out: sums of other tokens.

        Raises:
            ValueError: there are no tokens.
        """
        if not self.tokens or not held_out.tokens:
            raise ValueError("too little text to fit on")
        forms: tuple[tuple[Form, Tensor | None], ...] = (("free", None), ("after", weight))
        tried = [
            (held_out.error(found), form, ridge, found)
            for form, basis in forms
            for ridge, found in ((ridge, self.solve(ridge, basis)) for ridge in RIDGES)
        ]
        error, form, ridge, found = min(tried, key=lambda each: each[0])
        inner = weight.shape[1]
        bias = found[inner] if self.bias else None
        return Change(found[:inner].T.contiguous(), bias, form, ridge, error, self.tokens)

    def solve(self, ridge: float, basis: Tensor | None = None) -> Tensor:
        """[F, H]: the map of the features that misses the least, plus ridge · mean diagonal · ‖map‖²; a bias is free.

        Args:
            ridge: weight of the penalty.
            basis: [H, I]; only maps T·basis of m are allowed then, and the penalty is on T.
        """
        gram, cross, spread = self.gram, self.cross, None
        if basis is not None:
            spread = basis.double().T  # [I, H]
            if self.bias:
                spread = torch.block_diag(spread, torch.ones(1, 1, dtype=torch.float64))
            gram, cross = spread.T @ gram @ spread, spread.T @ cross
        penalty = ridge * gram.diagonal()[: len(gram) - self.bias].mean() * torch.ones(len(gram), dtype=torch.float64)
        if self.bias:
            penalty[-1] = 0
        solved = torch.linalg.solve(gram + penalty.diag(), cross)
        return solved if spread is None else spread @ solved

    def error(self, found: Tensor) -> float:
        """The share of the wanted changes, in squares, that a map [F, H] misses."""
        missed = self.size - 2 * float((found * self.cross).sum()) + float(((self.gram @ found) * found).sum())
        return missed / max(self.size, 1e-30)
