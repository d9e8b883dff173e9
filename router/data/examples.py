"""Training examples of a router: pooled states and target actions of each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pathgen.errors import ArtefactError, InputError


class FeatureRows(Protocol):
    """A source of features, read in batches."""

    def rows(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 of these questions."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Features and targets of questions; row n of every field is question n.

    Attributes:
        targets: [N, L, 3] float32 probabilities of actions.
        weights: [N] in the loss, at least 0.
        groups: [N] integers: the dataset of each question.
        dtype: of the model when the features were computed.

    Raises:
        InputError: there are no questions.
        ValueError: shapes do not fit, targets are not distributions, or weights are negative or all 0.
    """

    source: FeatureRows
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    ids: Sequence[str]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        count = len(self.ids)
        if not count:
            raise InputError("no questions to train on; give paths with at least one solved question")
        if self.targets.ndim != 3 or self.targets.shape[2] != 3:
            raise ValueError(f"targets must be [questions, layers, 3]; got {self.targets.shape}")
        for name in ("targets", "weights", "groups"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows for {count} questions")
        if not (self.targets >= 0).all() or not np.allclose(self.targets.sum(-1), 1, atol=1e-4):
            raise ValueError("targets must be at least 0 and sum to 1 over actions")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.any()):
            raise ValueError("weights must be finite, at least 0 and not all 0")

    def __len__(self) -> int:
        return len(self.ids)

    def features(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 of these questions.

        Raises:
            ArtefactError: one has NaN or Inf; the message names the question.
        """
        found = self.source.rows(indices)
        finite = torch.isfinite(found).flatten(1).all(dim=1)
        if not finite.all():
            first = self.ids[indices[int((~finite).nonzero()[0])]]
            raise ArtefactError(f"the features of question {first} hold NaN or Inf; delete them to compute them again")
        return found


def epoch_order(groups: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Indices of the questions of an epoch, in order; a function of (groups, seed, epoch).

    Every group has ⌈N / number of groups⌉ visits. A large group gives a random part; a small one repeats, and the
    visits of its questions differ by at most 1. With one group, each question comes once.
    """
    generator = np.random.default_rng([seed, epoch])
    names = np.unique(groups)
    share = -(-len(groups) // len(names))
    visits = []
    for name in names:
        members = np.flatnonzero(groups == name)
        rounds = [generator.permutation(members) for _ in range(-(-share // len(members)))]
        visits.append(np.concatenate(rounds)[:share])
    return generator.permutation(np.concatenate(visits))
