"""Quality of predicted actions, and shares of paths, which show whether a router has collapsed onto one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pathgen.paths.layer_path import LayerAction

from ..net.config import TIE_ORDER

NUM_ACTIONS = len(LayerAction)


def chosen_actions(scores: np.ndarray) -> np.ndarray:
    """[..., 3] logits, probabilities or targets to [...] actions; ties go to EXECUTE, then SKIP, as in routing."""
    return np.array(TIE_ORDER)[scores[..., TIE_ORDER].argmax(-1)]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Quality of predicting one action; `support` is how often it is the target."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True, eq=False)
class ActionMetrics:
    """Metrics from [L, 3, 3] counts, [layer, target, predicted]."""

    confusion_by_layer: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, target: np.ndarray) -> ActionMetrics:
        """Count actions [N, L].

        Raises:
            ValueError: shapes differ or are empty.
        """
        if predicted.shape != target.shape or predicted.ndim != 2 or not predicted.size:
            raise ValueError(f"actions must be two equal [questions, layers]; got {predicted.shape}, {target.shape}")
        num_layers = predicted.shape[1]
        cell = (np.arange(num_layers) * NUM_ACTIONS + target) * NUM_ACTIONS + predicted
        counts = np.bincount(cell.ravel(), minlength=num_layers * NUM_ACTIONS**2)
        return cls(counts.reshape(num_layers, NUM_ACTIONS, NUM_ACTIONS))

    @property
    def confusion(self) -> np.ndarray:
        """[3, 3] counts over all layers, [target, predicted]."""
        return self.confusion_by_layer.sum(0)

    @property
    def support(self) -> np.ndarray:
        """[3] how often each action is the target."""
        return self.confusion.sum(1)

    @property
    def precision(self) -> np.ndarray:
        """[3] share of the predictions of an action that are right; 0 where it is never predicted."""
        return _ratio(self.confusion.diagonal(), self.confusion.sum(0))

    @property
    def recall(self) -> np.ndarray:
        """[3] share of the targets of an action that are found; 0 where it is never the target."""
        return _ratio(self.confusion.diagonal(), self.support)

    @property
    def f1(self) -> np.ndarray:
        """[3] harmonic mean of precision and recall; 0 where an action is neither target nor predicted."""
        return _ratio(2 * self.confusion.diagonal(), self.support + self.confusion.sum(0))

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the actions that occur as targets."""
        return float(self.f1[self.support > 0].mean())

    @property
    def layer_accuracy(self) -> np.ndarray:
        """[L] share of right predictions at each layer."""
        return self.confusion_by_layer.diagonal(axis1=1, axis2=2).sum(1) / self.confusion_by_layer.sum((1, 2))

    def per_class(self) -> dict[str, ClassFigures]:
        """By the action's name."""
        columns = (self.precision, self.recall, self.f1, self.support)
        return {
            action.name.lower(): ClassFigures(*(values[action].item() for values in columns)) for action in LayerAction
        }


def calibration_error(probabilities: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |confidence − accuracy| over equal bins of confidence (Guo et al. 2017).

    Of [N, L, 3] probabilities and [N, L] target actions. Bin b holds confidences in (b/bins, (b+1)/bins].
    """
    confidence = probabilities.max(-1).ravel()
    right = (chosen_actions(probabilities) == target).ravel()
    place = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


@dataclass(frozen=True, slots=True)
class PathShares:
    """Shares of paths; a collapsed router has no question off the common path.

    Attributes:
        off_full: share of questions whose path is not the full one.
        off_common: share of questions whose path is not the most common one.
        mean_depth: layer executions per forward pass.
    """

    off_full: float
    off_common: float
    mean_depth: float

    @classmethod
    def of(cls, actions: np.ndarray) -> PathShares:
        """Of predicted actions [N, L].

        Raises:
            ValueError: no questions.
        """
        if not len(actions):
            raise ValueError("shares of paths need at least one question")
        _, counts = np.unique(actions, axis=0, return_counts=True)
        return cls(
            off_full=float((actions != LayerAction.EXECUTE).any(1).mean()),
            off_common=float(1 - counts.max() / len(actions)),
            mean_depth=float(actions.sum(1).mean()),
        )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part by whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
