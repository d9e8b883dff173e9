"""One call of `router train`: from path datasets to a saved router and its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from time import perf_counter
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pathgen.actors.placement import default_device
from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError, InputError
from pathgen.models.checkpoints import num_layers, resolve_recorded
from pathgen.models.reading import load_config
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import seeded_hash
from pathgen.static.draw import TooFewQuestions
from pathgen.static.static_paths import StaticPaths
from pathgen.store.files import check_writable

from ..data.path_datasets import PathDatasets
from ..data.split import check_disjoint, held_out, twins_of_dev
from ..dev.dev_set import DevQuestion, DevSet, dev_questions
from ..dev.tuning import choose_scale, find_bias
from ..net.config import RouterConfig
from ..net.policy import RouterPolicy
from ..net.router import Router
from ..saved.folder import check_folder, finish_swap, local_folder, save_router
from ..saved.loading import QUESTIONS_NAME, parameter_share
from ..training.tracking import Tracker
from .methods import Fitted, check_reach, fit_gates, fit_imitation, fit_static
from .options import TrainOptions
from .static_choice import find_static, given_static, static_path

MAX_DEV_QUESTIONS = 1000
"""Development questions that the model is run on; of more the first by hash."""
TRAINING_NAME = "training.json"
"""In the router's folder: all settings of its training, and the figures it ended with."""


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
        self.folder = local_folder(options.out)
        finish_swap(self.folder)
        check_folder(self.folder)
        self.training = PathDatasets(options.paths)
        self.training.check_askable()
        self.development = PathDatasets(options.dev) if options.dev else None
        if self.development:
            self._check_development(self.development)
            self.development.check_askable()
        self.model_name = options.model or self.training.model_id
        self.hidden_size = self._hidden_size()
        self.given_static = given_static(options, self.training)
        if options.method == "gates" or (options.method == "static" and self.given_static is None):
            check_reach(options, self.training.num_layers)
        for place in (self.folder.parent, self.folder):
            check_writable(LocalFileSystem(), str(place), f"--out {options.out}")
        self.device = _device_here(options.features.device)
        self._tracker = self._make_tracker()
        self._left_out: frozenset[str] = frozenset()
        if not self.development:
            self._left_out = twins_of_dev(self.training.rows(), self.is_dev)

    def run(self) -> dict[str, Any]:
        """Train, tune on development questions, save; the figures that `--json` prints.

        Raises:
            PathgenError: disk full, or a loss that is not finite.
        """
        started = perf_counter()
        if not self.dev_questions:
            raise InputError("no development questions: give --dev DIR, a larger --dev-share, or more paths")
        if not any(self.is_trained(question.id) for question in self.training.questions()):
            raise InputError("no questions to learn from: give a smaller --dev-share, --dev DIR, or more paths")
        self._tell_of_leaks()
        with self._tracker as tracker:
            fitted = self._fit(tracker)
        router, tuned = self._tuned(fitted.router.to(self.device))
        summary = {
            "router": self.options.out,
            "method": self.options.method,
            "labels": router.config.labels,
            "questions": len(fitted.shas),
            "epochs": fitted.epochs,
            **fitted.label_figures,
            **self._figures(router),
            "chosen_on_dev": [*fitted.chosen, *tuned],
            "static_only": router.config.static_only,
            "scale": router.config.scale,
            "bias": router.config.bias,
            "feature_seconds": fitted.feature_seconds,
            "parameters": router.num_parameters,
            "parameter_share": parameter_share(router, self.model.hf_model.num_parameters()),
        }
        router.config = replace(router.config, notes=_notes(summary))
        training = {"settings": asdict(self.options), "figures": summary}
        seen = {"trained_on": sorted(fitted.shas), "chosen_on": sorted(self.chosen_on - fitted.shas)}
        beside = {QUESTIONS_NAME: seen, TRAINING_NAME: training}
        save_router(router, self.folder, beside={name: _json(value) for name, value in beside.items()})
        return {**summary, "seconds": perf_counter() - started}

    @cached_property
    def model(self) -> PathModel:
        """The frozen model in this process, as the search ran it; loaded when it is first needed.

        So that it does not take the memory of the actors that compute features.
        """
        dtype = self.options.features.dtype or self.training.dtype
        return PathModel.from_pretrained(self.model_name, dtype=dtype, device=self.device)

    @cached_property
    def dev_questions(self) -> list[DevQuestion]:
        """Development questions; of many the first by lot, so that every folder keeps its share."""
        found = dev_questions(self.development or self.training, self.is_dev)
        return sorted(found, key=lambda entry: seeded_hash(0, entry.question.id))[:MAX_DEV_QUESTIONS]

    @cached_property
    def dev(self) -> DevSet:
        """Development questions and the model that answers them."""
        return DevSet(self.model, self.dev_questions, self.training.chat, quiet=self.options.quiet)

    def is_dev(self, question_id: str) -> bool:
        """Whether a question is a development question: any of --dev, else those of --paths that are held out."""
        return self.development is not None or held_out(question_id, self.options.dev_share)

    def is_trained(self, question_id: str) -> bool:
        """Whether a question of --paths may be learned from."""
        return self.development is not None or not (self.is_dev(question_id) or question_id in self._left_out)

    @property
    def chosen_on(self) -> frozenset[str]:
        """Shas of the questions that anything was chosen on: all development questions, those of the static path.

        Method static chooses nothing on development questions.
        """
        found = frozenset(self.static_paths.chosen_on) if self.static_paths else frozenset()
        if self.options.method == "static":
            return found
        asked = (self.development or self.training).questions()
        return found | {question.sha for question in asked if self.is_dev(question.id)}

    def config(self, **changes: Any) -> RouterConfig:
        """The router's settings as far as all methods share them."""
        shared: dict[str, Any] = {
            "base_model": self.model_name,
            "base_fingerprint": self.training.fingerprint,
            "num_layers": self.training.num_layers,
            "hidden_size": self.hidden_size,
            "tasks": self.training.tasks,
            "chat": self.training.chat,
            "method": self.options.method,
            "actions": self.options.actions,
            "pooling": self.options.pooling,
            "width": self.options.width,
        }
        return RouterConfig(**{**shared, **changes})

    def _fit(self, tracker: Tracker) -> Fitted:
        if self.options.method == "static":
            return fit_static(self)
        if self.options.method == "gates":
            return fit_gates(self)
        return fit_imitation(self, tracker)

    def _tuned(self, router: Router) -> tuple[Router, list[str]]:
        """Scale and bias, by what the routed model does on development questions; what of it was chosen by accuracy."""
        options = self.options
        chosen = []
        if router.config.head != "none" and router.static_logits.any():
            router = choose_scale(router, self.dev, self.tell)
            chosen.append("scale")
        if options.bias is not None:
            router.config = replace(router.config, bias=options.bias)
        elif options.target_depth is not None and not router.config.static_only:
            bias = find_bias(router, self.dev, options.target_depth, self.tell)
            router.config = replace(router.config, bias=bias)
        return router, chosen

    def _figures(self, router: Router) -> dict[str, Any]:
        """What the routed model, and one path for all, do on development questions."""
        routed = self.dev.run(self.dev.route(RouterPolicy(router)))
        static = self.dev.run_static(self.static_path or routed.common_path)
        own = {result.folder: result.own_path for result in self.static_paths.per_folder} if self.static_paths else {}
        return self.dev.report(routed, static, self.options.training.seed, own)

    def _tell_of_leaks(self) -> None:
        if self._left_out:
            self.tell(f"{len(self._left_out)} questions ask what a held-out one asks; they are not trained on")
        if self.given_static is None:
            return
        chosen_on = set(self.given_static.chosen_on)
        if seen := sum(entry.question.sha in chosen_on for entry in self.dev_questions):
            self.tell(
                f"the static path was chosen on {seen} of {len(self.dev_questions)} development questions: its "
                "accuracy here is flattered; see the cross-validated one of `pathgen static`, or give another --dev"
            )

    def _check_development(self, development: PathDatasets) -> None:
        options = self.options
        for name, ours, theirs in (
            ("fingerprint", self.training.fingerprint, development.fingerprint),
            ("number of layers", self.training.num_layers, development.num_layers),
            ("chat setting", self.training.chat, development.chat),
        ):
            if ours != theirs:
                raise ArtefactError(
                    f"--dev {options.dev[0]} and --paths {options.paths[0]} are not of one model, searched alike: "
                    f"their {name} is {theirs} and {ours}"
                )
        check_disjoint(self.training.questions(), development.questions())

    def _hidden_size(self) -> int:
        """Of the model, seen to be the one that the paths are of."""
        where = self.options.paths[0]
        folder = resolve_recorded(self.model_name, self.training.fingerprint, where)
        if num_layers(folder) != self.training.num_layers:
            raise ArtefactError(
                f"{where} holds paths of {self.training.num_layers} layers, {self.model_name} has {num_layers(folder)}"
            )
        return int(load_config(folder).get_text_config().hidden_size)

    @cached_property
    def static_path(self) -> LayerPath | None:
        """The best path for all, or the best within --target-depth; None where there are no static paths."""
        return None if self.static_paths is None else static_path(self.static_paths, self.options)

    @cached_property
    def static_paths(self) -> StaticPaths | None:
        """Those of --static, or else of a search for method static; None where there are none."""
        if self.given_static is not None or self.options.method != "static":
            return self.given_static
        try:
            return find_static(self.options, self.folder, self.model_name, self.device, self.is_trained)
        except TooFewQuestions as error:
            if self.options.target_depth is not None and self.options.target_depth < self.training.num_layers:
                raise
            self.tell(f"warning: no path was looked for, the full one is deployed: {error}")
            return None

    def _make_tracker(self) -> Tracker:
        name = self.options.tracker if self.options.method == "imitate" else "none"
        return Tracker(name, str(self.folder), {"method": self.options.method, "labels": self.options.labels})


def _device_here(wanted: str | None) -> str:
    """The device of this process, wherever the actors are.

    Raises:
        InputError: a GPU is asked for, and there is none here.
    """
    found = default_device()
    if wanted is not None and wanted.startswith("cuda") and found == "cpu":
        raise InputError(
            f"--device {wanted}: torch sees no CUDA device here, where the router is trained; leave it out, and "
            "the actors of a cluster find their own"
        )
    return wanted or found


def _json(value: Any) -> bytes:
    return (json.dumps(value) + "\n").encode()


def _notes(summary: dict[str, Any]) -> dict[str, Any]:
    """What a router's config keeps of its figures."""
    names = ("questions", "epochs", "macro_f1", "dev_questions", "routed_accuracy", "full_accuracy", "mean_depth")
    notes = {name: summary[name] for name in names if summary[name] is not None}
    return notes | ({"chosen_on_dev": ", ".join(chosen)} if (chosen := summary["chosen_on_dev"]) else {})
