"""`router evaluate`: a saved router's predictions of labels, and the accuracy of the routed model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cluster.program.json_codec import SPLICED
from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError, InputError
from pathgen.models.devices import default_device
from pathgen.models.resolving import resolve_recorded
from pathgen.paths.layer_path import LayerPath

from ..data.path_datasets import PathDatasets
from ..dev.dev_set import DevSet, dev_questions
from ..dev.figures import DevFigures
from ..dev.metrics import chosen_actions
from ..labels.labels import make_labels
from ..net.policy import policy_of
from ..net.router import Router
from ..saved.loading import load_router, resolve_router, seen_by
from ..training.label_examples import LabelFigures, predict_here
from .options import EvaluateOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """A router on the questions of path shards.

    Attributes:
        labels: kind of labels that the heads learned; None without labels.
        seen_in_training: number of these questions that the router was trained or chosen on.
    """

    router: str
    method: str
    labels: str | None
    seen_in_training: int
    predicted: LabelFigures = field(metadata=SPLICED)
    dev: DevFigures = field(metadata=SPLICED)


def evaluate_router(options: EvaluateOptions) -> EvaluationResult:
    """Evaluate a router on the questions of path shards.

    Raises:
        InputError: a folder does not exist or its questions cannot be asked.
        ArtefactError: router and shards are of different models, or just one of them used the chat template.
    """
    datasets = PathDatasets(options.paths)
    datasets.check_askable()
    place = resolve_router(options.router)
    router = load_router(place, fingerprint=datasets.fingerprint, num_layers=datasets.num_layers)
    if bool(router.config.chat) != bool(datasets.chat):
        names = (options.router, options.paths[0])
        with_chat, other = names if router.config.chat else reversed(names)
        raise ArtefactError(f"{with_chat} went through the chat template, {other} did not; give paths searched alike")
    name = options.model or router.config.base_model
    resolve_recorded(name, router.config.base_fingerprint, options.router)
    base = PathModel.from_pretrained(name, dtype=datasets.dtype, device=options.device or default_device())
    base.use_bridges(router.bridges)
    router, seen = router.to(base.device), seen_by(place)
    dev = DevSet(base, dev_questions(datasets), datasets.chat, quiet=options.quiet)
    routed = dev.routed(policy_of(router, options.bias, dev.pinned_layers))
    static = dev.run_static(static_path(router) if router.config.static_only else routed.common_path)
    return EvaluationResult(
        router=options.router,
        method=router.config.method,
        labels=router.config.labels,
        seen_in_training=sum(question.sha in seen for question in datasets.questions()),
        predicted=_label_figures(router, datasets, base),
        dev=dev.report(routed, static, options.seed),
    )


def _label_figures(router: Router, datasets: PathDatasets, model: PathModel) -> LabelFigures:
    """How well the heads predict the labels of these questions."""
    config = router.config
    if config.labels is None or config.static_only:
        return LabelFigures()
    try:
        labels = list(make_labels(datasets, config.labels, actions=config.actions))
    except InputError:  # no question has a label
        return LabelFigures()
    logits = predict_here(router, labels, model, datasets.chat)
    return LabelFigures.of(logits, np.stack([label.targets for label in labels]))


def static_path(router: Router) -> LayerPath:
    """The path of a router whose heads add nothing."""
    logits = router.static_part(router.config.bias).detach().cpu().numpy()
    return LayerPath(chosen_actions(logits).tolist())
