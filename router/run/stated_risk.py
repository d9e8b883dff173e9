"""The stated risk of `router train`: the shallowest path, cascade, or bias of a router, that holds a stated risk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pathgen.paths.layer_path import LayerPath

from ..dev.cascade_choice import hold_cascade
from ..dev.dev_set import DevSet
from ..dev.risk import StatedRisk
from ..dev.risk_control import RiskFigures, candidate_of, hold_risk
from ..dev.tuning import rising_biases
from ..net.policy import RouterPolicy
from ..net.router import Router, path_logits
from .inputs import TrainingInputs


def deploy_within_risk(inputs: TrainingInputs, router: Router, stated: StatedRisk) -> tuple[Router, RiskFigures]:
    """The router at the shallowest setting that holds the risk on held-out questions, else at full depth.

    Of method static, the settings are the paths of the frontier that are shallower than the model; of a cascade, gaps
    for each of them; of other methods, rising biases. All were chosen on other questions; the safest is tested first.
    """
    dev = held_out_questions(inputs)
    count, kind = len(dev.questions), stated.kind
    if inputs.options.method == "cascade":
        cascade, figures = hold_cascade(stated, dev, _shallower(inputs))
        if cascade is None:
            return _along(router, None), figures
        router = _along(router, cascade.path)
        router.config = replace(router.config, fall_back_below=cascade.gap)
        return router, figures
    if inputs.options.method == "static":
        tried = (candidate_of(path, kind, dev, [path] * count) for path in _shallower(inputs))
        path, figures = hold_risk(stated, count, dev.num_layers, tried)
        return _along(router, path), figures
    bent = (candidate_of(bias, kind, dev, paths) for bias, paths in _routed(inputs, router, dev))
    bias, figures = hold_risk(stated, count, dev.num_layers, bent)
    if bias is None:
        return _along(router, None), figures
    router.config = replace(router.config, bias=bias)
    return router, figures


def held_out_questions(inputs: TrainingInputs) -> DevSet:
    """The development questions that no choice was made on; tells how many the static paths were chosen on."""
    used = set(inputs.static_paths.chosen_on) if inputs.static_paths else set()
    if seen := sum(entry.question.sha in used for entry in inputs.dev.questions):
        inputs.tell(
            f"{seen} development questions are left out of the test of the risk: static paths were chosen on them"
        )
    if not inputs.options.follows_static:
        used |= {entry.question.sha for entry in inputs.tuning.questions}
    return inputs.dev.part(lambda question: question.sha not in used)


def _shallower(inputs: TrainingInputs) -> list[LayerPath]:
    """The frontier's paths of allowed actions below full depth, the deepest first."""
    if inputs.static_paths is None:
        return []
    found = inputs.within_actions(inputs.static_paths)
    below = [entry.path for entry in found.frontier if entry.depth < found.num_layers]
    return sorted(below, key=lambda path: -path.depth)


def _routed(inputs: TrainingInputs, router: Router, dev: DevSet) -> Iterator[tuple[float, list[LayerPath]]]:
    """Rising biases, each with the path of every question."""
    for bias in rising_biases(router, inputs.tuning):
        paths = dev.route(RouterPolicy(router, bias, dev.pinned_layers))
        inputs.tell(f"bias {bias:g}: mean depth {np.mean([path.depth for path in paths]):.4g}")
        yield bias, paths


def _along(router: Router, path: LayerPath | None) -> Router:
    """The router with one path for every question; None is full depth."""
    router.static_logits.data = path_logits(path or LayerPath.full(router.config.num_layers)).to(router.static_logits)
    router.config = replace(router.config, scale=0.0, bias=0.0)
    return router
