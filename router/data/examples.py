"""What a router is trained on: per question, pooled states and the actions to take on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pathgen.errors import ArtefactError, InputError

SUM_TOLERANCE = 1e-4
"""How far a row of float32 targets may sum from 1."""


class FeatureRows(Protocol):
    """Where features are read from, a few questions at a time."""

    def rows(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 of these questions."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Questions with targets; row n of everything is one question.

    Attributes:
        source: of the features.
        targets: [N, L, 3] float32, each row of three summing to 1.
        weights: [N] how much each question counts, at least 0.
        groups: [N] integers: which dataset each question is from.
        ids: what questions are called in messages.
        dtype: of the model that the features are of.

    Raises:
        InputError: there are no questions.
        ValueError: shapes do not fit, targets are no distributions, or weights are negative or all 0.
    """

    source: FeatureRows
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    ids: Sequence[str]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Check the fields."""
        count = len(self.ids)
        if not count:
            raise InputError("no questions to train on; give paths with at least one solved question")
        if self.targets.ndim != 3 or self.targets.shape[2] != 3:
            raise ValueError(f"targets must be [questions, layers, 3]; got {self.targets.shape}")
        for name in ("targets", "weights", "groups"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows for {count} questions")
        if not (self.targets >= 0).all() or not np.allclose(self.targets.sum(-1), 1, atol=SUM_TOLERANCE):
            raise ValueError("targets must be at least 0 and sum to 1 over actions")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.any()):
            raise ValueError("weights must be finite, at least 0 and not all 0")

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    @property
    def num_layers(self) -> int:
        """L."""
        return self.targets.shape[1]

    def features(self, indices: Sequence[int]) -> Tensor:
        """[B, L, W, H] float32 of these questions.

        Raises:
            ArtefactError: NaN or Inf among them, with the question's name.
        """
        found = self.source.rows(indices)
        finite = torch.isfinite(found).flatten(1).all(dim=1)
        if not finite.all():
            first = self.ids[indices[int((~finite).nonzero()[0])]]
            raise ArtefactError(f"the features of question {first} hold NaN or Inf; delete them to compute them again")
        return found


def epoch_order(groups: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Which questions an epoch visits, in order; a function of (seed, epoch) alone.

    Every group gives equally many, ⌈N / number of groups⌉: a large one a random part of it, a small one all of it
    as often as needed, so that no question comes twice more than another of its group. One group: each once.
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
