"""The ways to come to a router: a static path, imitation of searched paths, gates trained on the task's loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pathgen.engine.evaluator import Evaluator, Prepared
from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import find_task
from pathgen.static.candidates import shallowest_depth
from pathgen.store.searched_run import question_of

from ..dev.tuning import choose_path
from ..gates.gates import train_gates
from ..gates.rounding import SKIPPED_AT_MOST, gates_router, round_gates
from ..labels.labels import Label, make_labels
from ..net.config import allowed_actions
from ..net.router import Router, path_logits
from ..training.label_examples import LABEL_FIGURES, LabelFeatures, label_figures
from ..training.tracking import Tracker
from ..training.trainer import Trainer, new_router, predicted_logits

if TYPE_CHECKING:
    from ..data.path_datasets import PathDatasets
    from .options import TrainOptions
    from .training_run import TrainingRun

FIRST_DEV_QUESTIONS = 64
"""Of each task, on which all rounded gates are tried before the better ones go on."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A router before tuning, and how its training went.

    Attributes:
        router: on any device.
        shas: of the questions it has learned from.
        epochs: passes over them.
        feature_seconds: that the feature pass took; 0 where all was in the cache.
        chosen: what was chosen among several on development questions.
        label_figures: LABEL_FIGURES of the heads' actions on held-out labels, teacher forced; None without labels.
    """

    router: Router
    shas: frozenset[str]
    epochs: int = 0
    feature_seconds: float = 0.0
    chosen: tuple[str, ...] = ()
    label_figures: Mapping[str, Any] = field(default_factory=lambda: dict.fromkeys(LABEL_FIGURES))


def fit_static(run: TrainingRun) -> Fitted:
    """A router that takes one path: the best for all questions, or the full one where none was looked for."""
    router = Router(run.config(head="none", scale=0.0))
    router.static_logits.data = path_logits(run.static_path or LayerPath.full(router.config.num_layers))
    return Fitted(router, run.chosen_on)


def fit_imitation(run: TrainingRun, tracker: Tracker) -> Fitted:
    """Heads that learn the labels' actions, each layer on the states along the label's path (Dr.LLM, section 3.3)."""
    options = run.options
    train_labels = _labels(run, run.training, run.is_trained)
    dev_labels = _labels(run, run.development or run.training, run.is_dev)
    wishes = replace(options.features, quiet=options.quiet)
    features = LabelFeatures([*train_labels, *dev_labels], run.training, run.model_name, options.pooling, wishes)
    train, dev = features.examples(train_labels), features.examples(dev_labels)
    router = new_router(run.config(labels=options.labels), options.training.seed)
    if run.static_path is not None:
        router.static_logits.data = path_logits(run.static_path)
    router = router.to(run.device)
    trainer = Trainer(
        router, options.training, train, dev, folder=str(run.folder), tracker=tracker, quiet=options.quiet
    )
    reports = trainer.run()
    return Fitted(
        router,
        frozenset(label.question.sha for label in train_labels),
        epochs=len(reports),
        feature_seconds=features.seconds,
        chosen=("epoch",) if len(reports) > 1 else (),
        label_figures=label_figures(predicted_logits(router, dev), dev.targets),
    )


def fit_gates(run: TrainingRun) -> Fitted:
    """Gates on the task's own loss; of their roundings the one that is best on development questions."""
    options = run.options
    evaluators = {task: Evaluator(run.model, find_task(task), chat=run.training.chat) for task in run.training.tasks}
    prepared: list[Prepared] = []
    for _, record in run.training.records():
        if run.is_trained(record.question_id):
            prepared.append(evaluators[record.task].prepare(question_of(record)))
    settings = replace(options.gates, allow_repeat="repeat" in options.actions, pooling=options.pooling)

    def on_epoch(epoch: Any) -> None:
        if not options.quiet:
            run.tell(f"gates, epoch {epoch.epoch}/{settings.epochs}: loss {epoch.loss:.4f}, mean {epoch.mean_gate:.3f}")

    trained = train_gates(run.model, prepared, settings, on_epoch=on_epoch)
    depth = math.inf if options.target_depth is None else options.target_depth
    allowed = set(allowed_actions(options.actions))
    rounded = [path for path in round_gates(trained.gates) if set(path) <= allowed and path.depth <= depth]
    path = choose_path(rounded, run.dev, FIRST_DEV_QUESTIONS)
    head = {"head": "low_rank", "width": settings.rank} if settings.rank else {"head": "none", "scale": 0.0}
    router = gates_router(run.config(**head), trained, path)
    shas = frozenset(entry.question.sha for entry in prepared)
    return Fitted(router, shas, epochs=settings.epochs, chosen=("path",) if len(rounded) > 1 else ())


def _labels(run: TrainingRun, datasets: PathDatasets, wanted: Callable[[str], bool]) -> list[Label]:
    """The labels of the wanted questions; what is drawn over questions is drawn over those alone."""
    options = run.options
    return list(
        make_labels(datasets, options.labels, unsolved=options.unsolved, actions=options.actions, wanted=wanted)
    )


def check_reach(options: TrainOptions, num_layers: int) -> None:
    """See that the gates, or the search for a static path, can come to a path within the target depth.

    Raises:
        InputError: they cannot.
    """
    if options.target_depth is None:
        return
    if options.method == "gates":
        shallowest, what = num_layers - num_layers // SKIPPED_AT_MOST, "gates are rounded to"
    else:
        shallowest, what = shallowest_depth(num_layers), "is searched for method static"
    if "skip" not in options.actions:
        shallowest = num_layers
    if options.target_depth < shallowest:
        raise InputError(
            f"--target-depth {options.target_depth:g} is below {shallowest}, the shallowest path that {what} with "
            f"--actions {','.join(options.actions)}"
        )
