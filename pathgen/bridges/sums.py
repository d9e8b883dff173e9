"""Sums over tokens from which a layer's bridge is solved in closed form; their size does not grow with the tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .maps import Bridge, normalised

OUTLIER = 8.0
"""A token whose state changes by more than this many times the median change is left out of the fit: the first token
and a few others carry massive activations, which a least-squares fit would serve alone."""


@dataclass(slots=True, eq=False)
class LayerSums:
    """The sums of one layer, in float64 on the CPU.

    Attributes:
        gram: [H + 1, H + 1] of the features: normalised states, and a one.
        cross: [H + 1, H] of the features with the changes that the layer makes.
        tokens: number of tokens in the sums.
    """

    gram: Tensor
    cross: Tensor
    tokens: int = 0

    @classmethod
    def empty(cls, width: int) -> Self:
        """No tokens yet, for states of H = `width` values."""
        return cls(
            torch.zeros(width + 1, width + 1, dtype=torch.float64), torch.zeros(width + 1, width, dtype=torch.float64)
        )

    def add(self, before: Tensor, after: Tensor) -> None:
        """Add tokens: [n, H] states that reach the layer, and those that leave it.

        Raises:
            ValueError: a state is not finite.
        """
        change = after.float() - before.float()
        if not math.isfinite(float(change.sum())):
            raise ValueError("a state is not a finite number")
        usual, features = self.usual(change), normalised(before)
        tokens, width = int(usual.sum()), change.shape[1]
        if tokens < len(usual):
            features[~usual], change[~usual] = 0, 0
        # One call is summed in float32, which is several times faster; the sums of calls are kept in float64. The ones
        # are summed apart: a matrix of H + 1 columns is multiplied a third more slowly.
        total = features.sum(0).cpu()
        self.gram[:width, :width] += (features.T @ features).cpu()
        self.gram[width, :width] += total
        self.gram[:width, width] += total
        self.gram[width, width] += tokens
        self.cross[:width] += (features.T @ change).cpu()
        self.cross[width] += change.sum(0).cpu()
        self.tokens += tokens

    @staticmethod
    def usual(change: Tensor) -> Tensor:
        """[n] whether tokens take part in a fit, of their changes [n, H]: all but the outliers."""
        size = change.norm(dim=-1)
        return size <= OUTLIER * size.median()

    def merge(self, other: LayerSums) -> None:
        """Add the sums of other tokens."""
        self.gram += other.gram
        self.cross += other.cross
        self.tokens += other.tokens

    def solve(self, rank: int | None, ridge: float) -> Bridge:
        """The float32 bridge with the least squared error plus ridge · mean diagonal · ‖map‖².

        A rank below the width comes from reduced-rank regression: the map is projected on the directions in which
        its fitted changes vary most (Izenman 1975). The fitted mean is kept.

        Args:
            rank: of the map; None for a whole one.
            ridge: weight of the penalty.
        """
        width = self.cross.shape[1]
        penalty = ridge * self.gram.diagonal()[:width].mean() * torch.eye(width + 1, dtype=torch.float64)
        penalty[width, width] = 0  # the bias is free
        solved = torch.linalg.solve(self.gram + penalty, self.cross)
        weight, bias = solved[:width], solved[width]
        if rank is None or rank >= width:
            return Bridge(weight.T.contiguous().float(), None, bias.float())
        mean = self.gram[width, :width] / self.tokens
        centred = self.gram[:width, :width] - self.tokens * torch.outer(mean, mean)
        directions = torch.linalg.eigh(weight.T @ centred @ weight).eigenvectors[:, -rank:]  # [H, r]
        down = weight @ directions
        bias = bias + mean @ (weight - down @ directions.T)
        return Bridge(down.T.contiguous().float(), directions.contiguous().float(), bias.float())


def with_one(states: Tensor) -> Tensor:
    """[n, H + 1]: states with a one behind each."""
    return torch.cat([states, states.new_ones(*states.shape[:-1], 1)], dim=-1)
