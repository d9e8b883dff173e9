"""Labels joined with what a router sees: examples to train on, and how well labels are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pathgen.engine.path_model import PathModel

from ..data.examples import Examples
from ..data.path_datasets import PathDatasets
from ..dev.metrics import ActionMetrics, ClassFigures, calibration_error, chosen_actions
from ..features.features import FeatureKey, compute_here
from ..features.options import FeatureOptions
from ..features.run import compute_features
from ..features.store import FeatureSet
from ..labels.labels import Label
from ..net.pooling import Pooling
from ..net.router import Router
from .trainer import head_logits

CHUNK_LABELS = 64


class LabelFeatures:
    """The features of labels of one or several folders, each computed once, all labels of a folder together.

    Args:
        labels: any; equal ones count once.
        datasets: that they are drawn from, or others of the same model.
        model: alias, folder or hub id.
        pooling: the router's.
        options: how what is missing is computed.

    Attributes:
        seconds: that computing took; 0 where all was there before.

    Raises:
        PathgenError: as `compute_features`, once per folder.
    """

    def __init__(
        self, labels: Iterable[Label], datasets: PathDatasets, model: str, pooling: Pooling, options: FeatureOptions
    ):
        self._chat = datasets.chat
        self._sets: list[FeatureSet] = []
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        self._dtype = options.dtype or datasets.dtype
        wishes = replace(options, dtype=self._dtype)
        by_folder: dict[str, dict[str, FeatureKey]] = {}
        for label in labels:
            key = self._key(label)
            by_folder.setdefault(label.out, {})[key.digest] = key
        for folder, keys in by_folder.items():
            found = compute_features(folder, list(keys.values()), model, datasets.fingerprint, pooling, wishes)
            self._places |= {(folder, key.digest): (len(self._sets), row) for row, key in enumerate(found.keys)}
            self._sets.append(found)
        self.seconds = sum(found.seconds for found in self._sets)

    def examples(self, labels: Sequence[Label]) -> Examples:
        """Some of the labels with their features; those that have none are left out, equal ones count once.

        Raises:
            InputError: none is left.
        """
        placed = {place: label for label in labels if (place := self._places.get(self._name(label))) is not None}
        kept = list(placed.values())
        folders = list(dict.fromkeys(label.out for label in kept))
        return Examples(
            source=_Rows(self._sets, list(placed)),
            targets=np.stack([label.targets for label in kept]) if kept else np.zeros((0, 1, 3)),
            weights=np.array([label.weight for label in kept]),
            groups=np.array([folders.index(label.out) for label in kept]),
            ids=[label.question.id for label in kept],
            dtype=self._dtype,
        )

    def _key(self, label: Label) -> FeatureKey:
        return FeatureKey(label.question, label.task, self._chat, label.path)

    def _name(self, label: Label) -> tuple[str, str]:
        return label.out, self._key(label).digest


class _Rows:
    """Features of several sets as one row of questions.

    Args:
        sets: one per folder.
        places: [N] (set, row in it) of each question.
    """

    def __init__(self, sets: Sequence[FeatureSet], places: Sequence[tuple[int, int]]):
        self._sets, self._places = sets, places

    def rows(self, indices: Sequence[int]) -> torch.Tensor:
        """[B, L, W, H] float32 of these questions, in order."""
        found: dict[int, torch.Tensor] = {}
        for number in {self._places[index][0] for index in indices}:
            mine = [index for index in indices if self._places[index][0] == number]
            found.update(zip(mine, self._sets[number].rows([self._places[index][1] for index in mine]), strict=True))
        return torch.stack([found[index] for index in indices])


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How well the heads predict labels, teacher forced; all None where there are no labels or no heads.

    Attributes:
        per_class: by action.
        layer_accuracy: [L].
        confusion_by_layer: [L][3][3] counts, [layer][target][predicted].
    """

    macro_f1: float | None = None
    per_class: dict[str, ClassFigures] | None = None
    calibration_error: float | None = None
    layer_accuracy: list[float] | None = None
    confusion_by_layer: list[list[list[int]]] | None = None

    @classmethod
    def of(cls, logits: torch.Tensor, targets: NDArray[np.float32]) -> LabelFigures:
        """From [N, L, 3] logits against [N, L, 3] targets."""
        wanted = chosen_actions(targets)
        metrics = ActionMetrics.of(chosen_actions(logits.numpy()), wanted)
        return cls(
            metrics.macro_f1,
            metrics.per_class(),
            calibration_error(torch.softmax(logits, -1).numpy(), wanted),
            metrics.layer_accuracy.tolist(),
            metrics.confusion_by_layer.tolist(),
        )


@torch.inference_mode()
def predict_here(router: Router, labels: Sequence[Label], model: PathModel, chat: bool) -> torch.Tensor:
    """[N, L, 3] logits on the CPU of some labels' prompts, each along its label's path, computed in this process.

    Raises:
        PathgenError: a prompt has no features.
    """
    router.eval()
    parts = []
    for start in range(0, len(labels), CHUNK_LABELS):
        chunk = labels[start : start + CHUNK_LABELS]
        keys = [FeatureKey(label.question, label.task, chat, label.path) for label in chunk]
        features = compute_here(model, keys, router.config.pooling)
        parts.append(head_logits(router, features.to(router.static_logits.device)).cpu())
    return torch.cat(parts)
