"""The ways to come to a router: a static path, imitation of searched paths, gates trained on the task's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pathgen.errors import InputError
from pathgen.evaluator import Evaluator, Prepared
from pathgen.model import PathModel
from pathgen.searched_run import question_of
from pathgen.tasks import find_task

from .dev import DevSet
from .examples import Examples
from .feature_pass import compute_features
from .feature_store import FeatureSet
from .features import FeatureKey
from .gate_rounding import gates_router, round_gates
from .gates import train_gates
from .labels import Label, make_labels
from .metrics import ActionMetrics, calibration_error, chosen_actions
from .modules import Router, path_logits
from .tracking import Tracker
from .train import Trainer, new_router, predicted_logits
from .tuning import choose_path

if TYPE_CHECKING:
    from .dataset import PathDatasets
    from .training_run import TrainingRun

FIRST_DEV_QUESTIONS = 64
"""Of each task, on which all rounded gates are tried before the better ones go on."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A router before tuning, and how its training went; figures that a method has none of are None.

    Attributes:
        router: on the CPU.
        shas: of the questions it has learned from.
        epochs: passes over them.
        feature_seconds: that the feature pass took; 0 where all was in the cache.
        macro_f1: and what follows: of the heads' actions on held-out labels, teacher forced.
    """

    router: Router
    shas: frozenset[str]
    epochs: int = 0
    feature_seconds: float = 0.0
    macro_f1: float | None = None
    per_class: dict[str, Any] | None = None
    calibration_error: float | None = None
    layer_accuracy: list[float] | None = None
    confusion_by_layer: list[Any] | None = None

    @property
    def questions(self) -> int:
        """How many it has learned from."""
        return len(self.shas)


def fit_static(run: TrainingRun) -> Fitted:
    """A router that takes one path, found by `pathgen static`."""
    path = run.static_path()
    assert path is not None, "options see to it"
    router = Router(run.config(head="none", scale=0.0))
    router.static_logits.data = path_logits(path)
    return Fitted(router, frozenset(question.sha for question in run.training.questions()))


def fit_imitation(run: TrainingRun, tracker: Tracker) -> Fitted:
    """Heads that learn the labels' actions, each layer on the states along the label's path (Dr.LLM, section 3.3)."""
    options = run.options
    labels = _labels(run, run.training, wanted=lambda question_id: not run.is_dev(question_id))
    dev_labels = (
        _labels(run, run.development, wanted=lambda question_id: True)
        if run.development
        else _labels(run, run.training, wanted=run.is_dev)
    )
    for name, found in (("training", labels), ("development", dev_labels)):
        if not found:
            raise InputError(f"no {name} question has a label; search more questions, or use --labels value")
    train, seconds = _examples(run, labels)
    dev, dev_seconds = _examples(run, dev_labels)
    router = new_router(run.config(labels=options.labels), options.training.seed)
    if (path := run.static_path()) is not None:
        router.static_logits.data = path_logits(path)
    reports = Trainer(
        router, options.training, train, dev, folder=options.out, tracker=tracker, quiet=options.quiet
    ).run()
    logits = predicted_logits(router, dev)
    target = chosen_actions(dev.targets)
    metrics = ActionMetrics.of(chosen_actions(logits.numpy()), target)
    return Fitted(
        router,
        frozenset(label.question.sha for label in labels),
        epochs=len(reports),
        feature_seconds=seconds + dev_seconds,
        macro_f1=metrics.macro_f1,
        per_class=metrics.per_class(),
        calibration_error=calibration_error(torch.softmax(logits, -1).numpy(), target),
        layer_accuracy=metrics.layer_accuracy.tolist(),
        confusion_by_layer=metrics.confusion_by_layer.tolist(),
    )


def fit_gates(run: TrainingRun, dev: DevSet, model: PathModel) -> Fitted:
    """Gates on the task's own loss; of their roundings the one that is best on development questions."""
    options = run.options
    evaluators = {task: Evaluator(model, find_task(task), chat=run.training.chat) for task in run.training.tasks}
    prepared: list[Prepared] = []
    for _, record in run.training.records():
        if not run.is_dev(record.question_id):
            prepared.append(evaluators[record.task].prepare(question_of(record)))
    settings = replace(options.gates, allow_repeat="repeat" in options.actions, pooling=options.pooling)

    def on_epoch(epoch: Any) -> None:
        if not options.quiet:
            run.tell(f"gates, epoch {epoch.epoch}/{settings.epochs}: loss {epoch.loss:.4f}, mean {epoch.mean_gate:.3f}")

    trained = train_gates(model, prepared, settings, on_epoch=on_epoch)
    depth = options.target_depth
    candidates = [path for path in round_gates(trained.gates) if depth is None or path.depth <= depth]
    if not candidates:
        raise InputError(f"--target-depth {depth:g} is below all that gates are rounded to; they skip a third at most")
    path = choose_path(candidates, dev, FIRST_DEV_QUESTIONS)
    head = {"head": "low_rank", "width": settings.rank} if settings.rank else {"head": "none", "scale": 0.0}
    router = gates_router(run.config(**head), trained, path)
    return Fitted(router, frozenset(entry.question.sha for entry in prepared), epochs=settings.epochs)


def _labels(run: TrainingRun, datasets: PathDatasets, wanted: Callable[[str], bool]) -> list[Label]:
    """The labels of the wanted questions; what is drawn over questions is drawn over those alone."""
    options = run.options
    return list(
        make_labels(datasets, options.labels, unsolved=options.unsolved, actions=options.actions, wanted=wanted)
    )


class JoinedFeatures:
    """Features of several folders as one row of questions.

    Args:
        parts: one set per folder.
        places: [N] (part, row in it) of each question.
    """

    def __init__(self, parts: Sequence[FeatureSet], places: Sequence[tuple[int, int]]):
        self._parts, self._places = parts, places

    def rows(self, indices: Sequence[int]) -> torch.Tensor:
        """[B, L, W, H] float32 of these questions, in order."""
        found: dict[int, torch.Tensor] = {}
        for part in {self._places[index][0] for index in indices}:
            mine = [index for index in indices if self._places[index][0] == part]
            found.update(zip(mine, self._parts[part].rows([self._places[index][1] for index in mine]), strict=True))
        return torch.stack([found[index] for index in indices])


def _examples(run: TrainingRun, labels: Sequence[Label]) -> tuple[Examples, float]:
    """The labels with their features, those that have none left out; and the seconds that computing them took."""
    options = run.options
    folders = list(dict.fromkeys(label.out for label in labels))
    parts, places, kept = [], [], []
    for part, folder in enumerate(folders):
        by_digest = {
            FeatureKey(label.question, label.task, run.training.chat, label.path).digest: label
            for label in labels
            if label.out == folder
        }
        keys = [FeatureKey(label.question, label.task, run.training.chat, label.path) for label in by_digest.values()]
        wishes = replace(options.features, dtype=options.features.dtype or run.training.dtype, quiet=options.quiet)
        features = compute_features(folder, keys, run.model_name, run.training.fingerprint, options.pooling, wishes)
        parts.append(features)
        places += [(part, row) for row in range(len(features))]
        kept += [by_digest[key.digest] for key in features.keys]
    examples = Examples(
        source=JoinedFeatures(parts, places),
        targets=np.stack([label.targets for label in kept]) if kept else np.zeros((0, 1, 3)),
        weights=np.array([label.weight for label in kept]),
        groups=np.array([folders.index(label.out) for label in kept]),
        ids=[label.question.id for label in kept],
    )
    return examples, sum(part.seconds for part in parts)
