"""One call of `router train`: from path datasets to a saved router and its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

from cluster.program.plain import SPLICED, plain
from pathgen.errors import InputError

from ..dev.figures import DevFigures
from ..dev.tuning import choose_scale, find_bias
from ..labels.labels import Label
from ..net.policy import RouterPolicy
from ..net.router import Router
from ..saved.folder import save_router
from ..saved.layout import QUESTIONS_NAME, TRAINING_NAME
from ..saved.loading import parameter_share
from ..training.label_examples import LabelFigures
from ..training.tracking import Tracker
from .inputs import TrainingInputs
from .methods import Fitted, fit_gates, fit_imitation, fit_static, imitation_labels
from .options import TrainOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A saved router and its figures on development questions.

    Attributes:
        router: its folder.
        labels: kind of labels that the heads learned; None without such.
        questions: that it was trained on.
        epochs: passes over them.
        chosen_on_dev: what was chosen among several on development questions.
        static_only: every question takes the same path.
        feature_seconds: that the feature pass took.
        parameters: weights of the router.
        parameter_share: of the model's.
        seconds: of the whole call.
    """

    router: str
    method: str
    labels: str | None
    questions: int
    epochs: int
    predicted: LabelFigures = field(metadata=SPLICED)
    dev: DevFigures = field(metadata=SPLICED)
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
        """What the router's config keeps of the figures."""
        routed = self.dev.routed
        notes = {
            "questions": self.questions,
            "epochs": self.epochs,
            "macro_f1": self.predicted.macro_f1,
            "dev_questions": routed.dev_questions,
            "routed_accuracy": routed.routed_accuracy,
            "full_accuracy": routed.full_accuracy,
            "mean_depth": routed.mean_depth,
            "chosen_on_dev": ", ".join(self.chosen_on_dev) or None,
        }
        return {name: value for name, value in notes.items() if value is not None}


class TrainingRun:
    """Whatever can be refused is refused by the constructor, before a model loads.

    Args:
        options: what was asked for.
        tell: shows one line to the person.

    Raises:
        InputError: bad folders, options that do not fit them, or development questions that are trained on.
        ArtefactError: folders of different models, damaged ones, or a static path of another model.
    """

    def __init__(self, options: TrainOptions, tell: Callable[[str], None]):
        self.options = options
        self.tell = tell
        self.inputs = TrainingInputs(options, tell)
        self._tracker = self._make_tracker()

    def run(self) -> TrainingResult:
        """Train, tune on development questions, save.

        Raises:
            PathgenError: disk full, or a loss that is not finite.
        """
        started = perf_counter()
        labels = imitation_labels(self.inputs) if self.options.method == "imitate" else None
        if not self.inputs.dev_questions:
            raise InputError("no development questions: give --dev DIR, a larger --dev-share, or more paths")
        if not any(self.inputs.is_trained(question.id) for question in self.inputs.training.questions()):
            raise InputError("no questions to learn from: give a smaller --dev-share, --dev DIR, or more paths")
        self._tell_of_leaks()
        with self._tracker as tracker:
            fitted = self._fit(tracker, labels)
        router, tuned = self._tuned(fitted.router.to(self.inputs.device))
        result = TrainingResult(
            router=self.options.out,
            method=self.options.method,
            labels=router.config.labels,
            questions=len(fitted.shas),
            epochs=fitted.epochs,
            predicted=fitted.labels,
            dev=self._figures(router),
            chosen_on_dev=(*fitted.chosen, *tuned),
            static_only=router.config.static_only,
            scale=router.config.scale,
            bias=router.config.bias,
            feature_seconds=fitted.feature_seconds,
            parameters=router.num_parameters,
            parameter_share=parameter_share(router, self.inputs.model.hf_model.num_parameters()),
        )
        router.config = replace(router.config, notes=result.notes)
        figures = {name: value for name, value in plain(result).items() if name != "seconds"}
        training = {"settings": asdict(self.options), "figures": figures}
        seen = {"trained_on": sorted(fitted.shas), "chosen_on": sorted(self.inputs.chosen_on - fitted.shas)}
        beside = {QUESTIONS_NAME: seen, TRAINING_NAME: training}
        save_router(router, self.inputs.folder, beside={name: _json(value) for name, value in beside.items()})
        return replace(result, seconds=perf_counter() - started)

    def _fit(self, tracker: Tracker, labels: tuple[list[Label], list[Label]] | None) -> Fitted:
        if labels is not None:
            return fit_imitation(self.inputs, labels, tracker)
        if self.options.method == "static":
            return fit_static(self.inputs)
        return fit_gates(self.inputs)

    def _tuned(self, router: Router) -> tuple[Router, list[str]]:
        """Scale and bias, by what the routed model does on development questions; what of it was chosen by accuracy."""
        options = self.options
        chosen = []
        if router.config.head != "none" and router.static_logits.any():
            router = choose_scale(router, self.inputs.dev, self.tell)
            chosen.append("scale")
        if options.bias is not None:
            router.config = replace(router.config, bias=options.bias)
        elif options.target_depth is not None and not router.config.static_only:
            bias = find_bias(router, self.inputs.dev, options.target_depth, self.tell)
            router.config = replace(router.config, bias=bias)
        return router, chosen

    def _figures(self, router: Router) -> DevFigures:
        """What the routed model, and one path for all, do on development questions."""
        routed = self.inputs.dev.run(self.inputs.dev.route(RouterPolicy(router)))
        static = self.inputs.dev.run_static(self.inputs.static_path or routed.common_path)
        own = (
            {result.folder: result.own_path for result in self.inputs.static_paths.per_folder}
            if self.inputs.static_paths
            else {}
        )
        return self.inputs.dev.report(routed, static, self.options.training.seed, own)

    def _tell_of_leaks(self) -> None:
        if self.inputs.left_out:
            self.tell(f"{len(self.inputs.left_out)} questions ask what a held-out one asks; they are not trained on")
        if self.inputs.given_static is None:
            return
        chosen_on = set(self.inputs.given_static.chosen_on)
        if seen := sum(entry.question.sha in chosen_on for entry in self.inputs.dev_questions):
            self.tell(
                f"the static path was chosen on {seen} of {len(self.inputs.dev_questions)} development questions: its "
                "accuracy here is flattered; see the cross-validated one of `pathgen static`, or give another --dev"
            )

    def _make_tracker(self) -> Tracker:
        name = self.options.tracker if self.options.method == "imitate" else "none"
        return Tracker(name, str(self.inputs.folder), {"method": self.options.method, "labels": self.options.labels})


def _json(value: Any) -> bytes:
    return (json.dumps(value) + "\n").encode()
