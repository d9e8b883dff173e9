"""`router train`: from path datasets to a saved router and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from cluster.program.json_codec import SPLICED, encoded, to_json
from pathgen.errors import InputError

from ..dev.figures import DevFigures
from ..dev.risk_control import RiskFigures, risk_text
from ..dev.tuning import choose_scale, find_bias
from ..net.policy import policy_of
from ..net.router import Router
from ..saved.folder import save_router
from ..saved.layout import QUESTIONS_NAME, TRAINING_NAME
from ..training.label_examples import LabelFigures
from .inputs import TrainingInputs
from .methods import fit_gates, fit_imitation, fit_static, imitation_labels
from .stated_risk import deploy_within_risk


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A saved router and its figures on development questions.

    Attributes:
        router: its folder.
        labels: kind of labels that the heads learned; None without labels.
        questions: number of questions it was trained on.
        risk: the stated risk; None if none is stated.
        chosen_on_dev: what was chosen among several on development questions.
        static_only: every question takes the same path.
        feature_seconds: duration of the feature pass.
        parameters: number of the router's weights.
        parameter_share: that number relative to the model's.
        seconds: duration of the whole training.
    """

    router: str
    method: str
    labels: str | None
    questions: int
    epochs: int
    predicted: LabelFigures = field(metadata=SPLICED)
    dev: DevFigures = field(metadata=SPLICED)
    risk: RiskFigures | None
    chosen_on_dev: tuple[str, ...]
    static_only: bool
    scale: float
    bias: float
    feature_seconds: float
    parameters: int
    parameter_share: float
    seconds: float | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """The figures that the router's config keeps."""
        routed = self.dev.routed
        notes = {
            "questions": self.questions,
            "epochs": self.epochs,
            "macro_f1": self.predicted.macro_f1,
            "dev_questions": routed.dev_questions,
            "routed_accuracy": routed.routed_accuracy,
            "full_accuracy": routed.full_accuracy,
            "mean_depth": routed.mean_depth,
            "stated_risk": self.risk and risk_text(self.risk),
            "chosen_on_dev": ", ".join(self.chosen_on_dev) or None,
        }
        return {name: value for name, value in notes.items() if value is not None}


def train_router(inputs: TrainingInputs) -> TrainingResult:
    """Train, tune on development questions, save.

    Raises:
        InputError: there are no questions to train on or to develop on, or no labels.
        PathgenError: disk full, or a loss that is not finite.
    """
    started, options = perf_counter(), inputs.options
    labels = imitation_labels(inputs) if options.method == "imitate" else None
    if not inputs.dev_questions:
        raise InputError("no development questions: give --dev DIR, a larger --dev-share, or more paths")
    trains = any(inputs.is_trained(question.id) for question in inputs.training.questions())
    if not (trains or options.trains_on_nothing):
        raise InputError("no questions to train on: give a smaller --dev-share, --dev DIR, or more paths")
    if not any(inputs.is_tuned_on(entry.question.id) for entry in inputs.dev_questions):
        raise InputError("too few development questions: half are kept to test the risk; give more with --dev DIR")
    _warn_of_leaks(inputs)
    if labels is not None:
        with inputs.tracker:
            fitted = fit_imitation(inputs, *labels)
    else:
        fitted = fit_static(inputs) if options.follows_static else fit_gates(inputs)
    router, tuned = _tuned(inputs, fitted.router.to(inputs.device))
    risk = None
    if stated := options.stated_risk:
        router, risk = deploy_within_risk(inputs, router, stated)
        tuned.append("depth")
    result = TrainingResult(
        router=options.out,
        method=options.method,
        labels=router.config.labels,
        questions=len(fitted.shas),
        epochs=fitted.epochs,
        predicted=fitted.labels,
        dev=_dev_figures(inputs, router),
        risk=risk,
        chosen_on_dev=(*fitted.chosen, *tuned),
        static_only=router.config.static_only,
        scale=router.config.scale,
        bias=router.config.bias,
        feature_seconds=fitted.feature_seconds,
        parameters=router.num_parameters,
        parameter_share=router.num_parameters / inputs.model.hf_model.num_parameters(),
    )
    router.config = replace(router.config, notes=result.notes)
    router.bridges = inputs.bridges
    seen = {"trained_on": sorted(fitted.shas), "chosen_on": sorted(inputs.chosen_on - fitted.shas)}
    figures = {name: value for name, value in encoded(result).items() if name != "seconds"}
    training = {"settings": options, "figures": figures}
    save_router(router, inputs.folder, {QUESTIONS_NAME: to_json(seen), TRAINING_NAME: to_json(training)})
    return replace(result, seconds=perf_counter() - started)


def _warn_of_leaks(inputs: TrainingInputs) -> None:
    if inputs.left_out:
        inputs.tell(f"{len(inputs.left_out)} questions ask what a held-out one asks; they are not trained on")
    chosen_on = set(inputs.given_static.chosen_on) if inputs.given_static else set()
    if seen := sum(entry.question.sha in chosen_on for entry in inputs.dev_questions):
        inputs.tell(
            f"the static path was chosen on {seen} of {len(inputs.dev_questions)} development questions: its "
            "accuracy here is flattered; see the cross-validated one of `pathgen static`, or give another --dev"
        )


def _tuned(inputs: TrainingInputs, router: Router) -> tuple[Router, list[str]]:
    """The router with its scale and bias set, and the names of those chosen by accuracy on development questions."""
    options, chosen = inputs.options, []
    if router.config.head != "none" and router.static_logits.any():
        router = choose_scale(router, inputs.tuning, inputs.tell)
        chosen.append("scale")
    if options.bias is not None:
        router.config = replace(router.config, bias=options.bias)
    elif options.target_depth is not None and not router.config.static_only:
        bias = find_bias(router, inputs.tuning, options.target_depth, inputs.tell)
        router.config = replace(router.config, bias=bias)
    return router, chosen


def _dev_figures(inputs: TrainingInputs, router: Router) -> DevFigures:
    """The routed model, and one path for all, on development questions."""
    routed = inputs.dev.routed(policy_of(router, pinned=inputs.dev.pinned_layers))
    given = None if inputs.options.follows_static else inputs.static_path  # a stated risk may deploy another
    static = inputs.dev.run_static(given or routed.common_path)
    per_folder = inputs.static_paths.per_folder if inputs.static_paths else ()
    own_paths = {result.folder: result.own_path for result in per_folder}
    return inputs.dev.report(routed, static, inputs.options.training.seed, own_paths)
