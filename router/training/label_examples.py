"""Labels joined with features: training examples, and the quality of predicted labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pathgen.engine.path_model import PathModel
from pathgen.questions.chat import Chat

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
    """The features of labels of one or several folders; what is missing is computed once for each folder.

    Args:
        labels: equal ones count once.
        datasets: of the labels, or others of the same model.
        model: alias, folder or hub id.

    Attributes:
        seconds: of the feature pass; 0 if nothing was missing.

    Raises:
        PathgenError: as `compute_features`.
    """

    def __init__(
        self, labels: Iterable[Label], datasets: PathDatasets, model: str, pooling: Pooling, options: FeatureOptions
    ):
        self._chat = datasets.chat
        self._dtype = options.dtype or datasets.dtype
        self._places: dict[tuple[str, str], tuple[FeatureSet, int]] = {}
        self.seconds = 0.0
        by_folder: defaultdict[str, dict[str, FeatureKey]] = defaultdict(dict)
        for label in labels:
            key = _key(label, self._chat)
            by_folder[label.out][key.digest] = key
        options = replace(options, dtype=self._dtype)
        for folder, keys in by_folder.items():
            found = compute_features(
                folder,
                list(keys.values()),
                model,
                datasets.fingerprint,
                pooling,
                options,
                bridged=datasets.bridges is not None,
            )
            self._places |= {(folder, key.digest): (found, row) for row, key in enumerate(found.keys)}
            self.seconds += found.seconds

    def examples(self, labels: Sequence[Label]) -> Examples:
        """Some of the labels with their features; labels without features are left out, equal ones count once.

        Raises:
            InputError: no label is left.
        """
        names = [(label.out, _key(label, self._chat).digest) for label in labels]
        placed = {self._places[name]: label for name, label in zip(names, labels, strict=True) if name in self._places}
        kept = list(placed.values())
        folders = list(dict.fromkeys(label.out for label in kept))
        return Examples(
            source=_Rows(list(placed)),
            targets=np.array([label.targets for label in kept]),
            weights=np.array([label.weight for label in kept]),
            groups=np.array([folders.index(label.out) for label in kept]),
            ids=[label.question.id for label in kept],
            dtype=self._dtype,
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The features at these rows of sets; a batch reads the rows of each set together."""

    places: Sequence[tuple[FeatureSet, int]]

    def rows(self, indices: Sequence[int]) -> torch.Tensor:
        by_set: defaultdict[FeatureSet, list[int]] = defaultdict(list)
        for index in indices:
            by_set[self.places[index][0]].append(index)
        found: dict[int, torch.Tensor] = {}
        for features, mine in by_set.items():
            found.update(zip(mine, features.rows([self.places[index][1] for index in mine]), strict=True))
        return torch.stack([found[index] for index in indices])


def _key(label: Label, chat: Chat) -> FeatureKey:
    return FeatureKey(label.question, label.task, chat, label.path)


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Quality of the heads' predictions of labels, teacher forced; all None without labels or heads."""

    macro_f1: float | None = None
    per_class: dict[str, ClassFigures] | None = None
    calibration_error: float | None = None
    layer_accuracy: list[float] | None = None
    confusion_by_layer: list[list[list[int]]] | None = None

    @classmethod
    def of(cls, logits: torch.Tensor, targets: NDArray[np.float32]) -> LabelFigures:
        """Figures of [N, L, 3] logits against [N, L, 3] targets."""
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
def predict_here(router: Router, labels: Sequence[Label], model: PathModel, chat: Chat) -> torch.Tensor:
    """[N, L, 3] logits on the CPU, each along its label's path, from features computed in this process.

    Raises:
        PathgenError: a prompt has no features.
    """
    router.eval()
    parts = []
    for start in range(0, len(labels), CHUNK_LABELS):
        keys = [_key(label, chat) for label in labels[start : start + CHUNK_LABELS]]
        features = compute_here(model, keys, router.config.pooling)
        parts.append(head_logits(router, features.to(router.static_logits.device)).cpu())
    return torch.cat(parts)
