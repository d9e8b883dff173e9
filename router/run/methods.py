"""The three ways to a router: a static path, imitation of searched paths, gates trained on the task's loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath

from ..dev.tuning import choose_path
from ..gates.gates import GateEpoch, train_gates
from ..gates.rounding import gates_router, round_gates
from ..labels.labels import Label, make_labels
from ..net.config import allowed_actions
from ..net.router import Router, path_logits
from ..training.label_examples import LabelFeatures, LabelFigures
from ..training.trainer import Trainer, new_router, predicted_logits
from .inputs import TrainingInputs

FIRST_DEV_QUESTIONS = 64
"""Per task: all rounded gates are tried on these questions, the better ones then on all."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A router before tuning, and figures of its training.

    Attributes:
        shas: of the questions it was trained on.
        feature_seconds: duration of the feature pass; 0 if the cache held all features.
        chosen: what was chosen among several on development questions.
        labels: how well the heads predict held-out labels.
    """

    router: Router
    shas: frozenset[str]
    epochs: int = 0
    feature_seconds: float = 0.0
    chosen: tuple[str, ...] = ()
    labels: LabelFigures = field(default_factory=LabelFigures)


def fit_static(inputs: TrainingInputs) -> Fitted:
    """A router that takes one path: the best static path, or the full path without static paths."""
    router = Router(inputs.config(head="none", scale=0.0))
    router.static_logits.data = path_logits(inputs.static_path or LayerPath.full(router.config.num_layers))
    return Fitted(router, frozenset(inputs.static_paths.chosen_on if inputs.static_paths else ()))


def imitation_labels(inputs: TrainingInputs) -> tuple[list[Label], list[Label]]:
    """The labels of training and of development questions; --paths is read once if it holds both."""
    options = inputs.options
    labels = partial(
        make_labels,
        policy=options.labels,
        unsolved=options.unsolved,
        actions=options.actions,
        part=inputs.is_dev,
    )
    found = list(labels(inputs.training, wanted=lambda name: inputs.is_trained(name) or inputs.is_tuned_on(name)))
    if inputs.development:
        return found, list(labels(inputs.development, wanted=inputs.is_tuned_on))
    dev = [label for label in found if inputs.is_dev(label.question.id)]
    return [label for label in found if not inputs.is_dev(label.question.id)], dev


def fit_imitation(inputs: TrainingInputs, train_labels: list[Label], dev_labels: list[Label]) -> Fitted:
    """Heads that learn the labels' actions, each layer on the states along the label's path (Dr.LLM, section 3.3)."""
    options = inputs.options
    features = LabelFeatures(
        [*train_labels, *dev_labels], inputs.training, inputs.model_name, options.pooling, options.features
    )
    train, dev = features.examples(train_labels), features.examples(dev_labels)
    router = new_router(inputs.config(labels=options.labels), options.training.seed)
    if inputs.static_path is not None:
        router.static_logits.data = path_logits(inputs.static_path)
    router = router.to(inputs.device)
    trainer = Trainer(
        router, options.training, train, dev, folder=inputs.folder, tracker=inputs.tracker, quiet=options.quiet
    )
    reports = trainer.run()
    return Fitted(
        router,
        frozenset(label.question.sha for label in train_labels),
        epochs=len(reports),
        feature_seconds=features.seconds,
        chosen=("epoch",) if len(reports) > 1 else (),
        labels=LabelFigures.of(predicted_logits(router, dev), dev.targets),
    )


def fit_gates(inputs: TrainingInputs) -> Fitted:
    """Gates trained on the task's loss, rounded to the path that is best on development questions."""
    options, training = inputs.options, inputs.training
    evaluators = {name: Evaluator(inputs.model, task, chat=training.chat) for name, task in training.asked_as.items()}
    prepared = [
        evaluators[record.task].prepare(record.question)
        for _, record in training.records()
        if inputs.is_trained(record.question.id)
    ]
    allowed = set(allowed_actions(options.actions))
    settings = replace(options.gates, allow_repeat="repeat" in options.actions, pooling=options.pooling)

    def on_epoch(epoch: GateEpoch) -> None:
        if not options.quiet:
            inputs.tell(
                f"gates, epoch {epoch.epoch}/{settings.epochs}: loss {epoch.loss:.4f}, mean {epoch.mean_gate:.3f}"
            )

    trained = train_gates(inputs.model, prepared, settings, on_epoch)
    depth = math.inf if options.target_depth is None else options.target_depth
    rounded = [
        path
        for path in round_gates(trained.gates, inputs.dev.pinned_layers)
        if set(path) <= allowed and path.depth <= depth
    ]
    path = choose_path(rounded, inputs.tuning, FIRST_DEV_QUESTIONS)
    head = {"head": "low_rank", "width": settings.rank} if settings.rank else {"head": "none", "scale": 0.0}
    router = gates_router(inputs.config(**head), trained, path)
    shas = frozenset(entry.question.sha for entry in prepared)
    return Fitted(router, shas, epochs=settings.epochs, chosen=("path",) if len(rounded) > 1 else ())
