"""One call of `router train`: from path datasets to a saved router and its figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pathgen.actions import LayerPath
from pathgen.checkpoints import fingerprint, num_layers, resolve_model
from pathgen.errors import ArtefactError, InputError
from pathgen.model import PathModel
from pathgen.placement import default_device
from pathgen.searched_run import question_of
from pathgen.static import StaticPaths, load_static
from pathgen.storage import open_folder, put

from .config import RouterConfig
from .dataset import PathDatasets
from .dev import DevQuestion, DevSet
from .methods import Fitted, fit_gates, fit_imitation, fit_static
from .modules import Router
from .options import TrainOptions
from .policy import RouterPolicy
from .pretrained import CONFIG_NAME, parameter_share
from .split import check_disjoint, held_out
from .tracking import Tracker
from .tuning import choose_scale, find_bias

MAX_DEV_QUESTIONS = 1000
"""Development questions that the model is run on; of more the first by hash."""
QUESTIONS_NAME = "training_questions.json"
"""In the router's folder: the shas of the questions it was trained on, so that a benchmark can warn."""


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
        self.training = PathDatasets(options.paths)
        self.development = PathDatasets(options.dev) if options.dev else None
        self._check_folder()
        if self.development:
            if self.development.fingerprint != self.training.fingerprint:
                raise ArtefactError(f"--dev {options.dev[0]} is of another model than --paths {options.paths[0]}")
            check_disjoint(self.training.questions(), self.development.questions())
        self.model_name = options.model or self.training.model_id
        folder = resolve_model(self.model_name)
        if fingerprint(folder) != self.training.fingerprint:
            raise ArtefactError(
                f"the paths are of {self.training.model_id} with fingerprint {self.training.fingerprint}, "
                f"{self.model_name} has {fingerprint(folder)}; give --model the one they were searched on"
            )
        if num_layers(folder) != self.training.num_layers:
            raise ArtefactError(
                f"{options.paths[0]} holds paths of {self.training.num_layers} layers, {self.model_name} has "
                f"{num_layers(folder)}"
            )
        self.hidden_size = _hidden_size(folder)
        self.static = self._static_paths()
        self.device = options.features.device or default_device(options.features.address)

    def run(self) -> dict[str, Any]:
        """Train, tune on development questions, save; the figures that `--json` prints.

        Raises:
            PathgenError: disk full, or a loss that is not finite.
        """
        started = time.perf_counter()
        dev_questions = list(self._dev_questions())
        if not dev_questions:
            raise InputError("no development questions: give --dev DIR, a larger --dev-share, or more paths")
        model = self._model()
        with self._tracker() as tracker:
            dev = DevSet(model, dev_questions[:MAX_DEV_QUESTIONS], self.training.chat)
            fitted = self._fit(dev, model, tracker)
            router = self._tuned(fitted.router, dev)
            figures = self._figures(router, dev)
            summary = {
                "router": self.options.out,
                "method": self.options.method,
                "labels": router.config.labels,
                "questions": fitted.questions,
                "epochs": fitted.epochs,
                "macro_f1": fitted.macro_f1,
                "per_class": fitted.per_class,
                "calibration_error": fitted.calibration_error,
                "layer_accuracy": fitted.layer_accuracy,
                "confusion_by_layer": fitted.confusion_by_layer,
                **figures,
                "static_only": router.config.static_only,
                "scale": router.config.scale,
                "bias": router.config.bias,
                "feature_seconds": fitted.feature_seconds,
                "parameters": router.num_parameters,
                "parameter_share": parameter_share(router, _parameters(model)),
            }
        router.config = replace(router.config, notes=_notes(summary))
        router.save_pretrained(self.options.out)
        fs, root = open_folder(self.options.out)
        put(fs, f"{root}/{QUESTIONS_NAME}", (json.dumps(sorted(fitted.shas)) + "\n").encode())
        return {**summary, "seconds": time.perf_counter() - started}

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

    def static_path(self) -> LayerPath | None:
        """The path of --static: the best, or the best within --target-depth."""
        if self.static is None:
            return None
        depth = self.options.target_depth
        return self.static.best.path if depth is None else self.static.at_depth(int(depth))

    def is_dev(self, question_id: str) -> bool:
        """Whether a question of --paths is held out."""
        return self.development is None and held_out(question_id, self.options.dev_share)

    def _fit(self, dev: DevSet, model: PathModel, tracker: Tracker) -> Fitted:
        if self.options.method == "static":
            return fit_static(self)
        if self.options.method == "gates":
            return fit_gates(self, dev, model)
        return fit_imitation(self, tracker)

    def _tuned(self, router: Router, dev: DevSet) -> Router:
        """Scale and bias, by what the routed model does on development questions."""
        options = self.options
        if router.config.head != "none" and options.static is not None:
            router = choose_scale(router, dev, self.tell)
        if options.bias is not None:
            router.config = replace(router.config, bias=options.bias)
        elif options.target_depth is not None and not router.config.static_only:
            router.config = replace(router.config, bias=find_bias(router, dev, options.target_depth))
        return router

    def _figures(self, router: Router, dev: DevSet) -> dict[str, Any]:
        """What the routed model, and one path for all, do on development questions."""
        routed = dev.run(dev.route(RouterPolicy(router)))
        path = self.static_path() or routed.common_path
        static = routed.correct if set(routed.paths) == {path} else dev.run_static(path)
        return dev.report(routed, static, self.options.training.seed)

    def _dev_questions(self) -> Iterator[DevQuestion]:
        datasets = self.development or self.training
        for out, record in datasets.records():
            if self.development or self.is_dev(record.question_id):
                yield DevQuestion(question_of(record), record.task, out, bool(record.base_correct))

    def _static_paths(self) -> StaticPaths | None:
        name = self.options.static
        if name is None:
            return None
        found = load_static(name)
        found.check_matches(self.training.fingerprint, self.training.num_layers, name)
        return found

    def _model(self) -> PathModel:
        """The frozen model in this process, for development questions, as the search ran it."""
        dtype = self.options.features.dtype or self.training.dtype
        return PathModel.from_pretrained(self.model_name, dtype=dtype, device=self.device)

    def _tracker(self) -> Tracker:
        name = self.options.tracker if self.options.method == "imitate" else "none"
        return Tracker(name, self.options.out, {"method": self.options.method, "labels": self.options.labels})

    def _check_folder(self) -> None:
        folder = Path(self.options.out)
        if folder.is_file():
            raise InputError(f"--out {folder} is a file; give a folder")
        known = {CONFIG_NAME, ".training", "logs"}
        if folder.is_dir() and (names := [entry.name for entry in folder.iterdir()]) and not known & set(names):
            raise InputError(f"--out {folder} holds {names[0]} and no router; give a new folder")


def _hidden_size(folder: Path) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config().hidden_size)


def _parameters(model: PathModel) -> int:
    return sum(parameter.numel() for parameter in model.hf_model.parameters())


def _notes(summary: dict[str, Any]) -> dict[str, Any]:
    """What a router's config keeps of its figures."""
    names = ("questions", "epochs", "macro_f1", "dev_questions", "routed_accuracy", "full_accuracy", "mean_depth")
    return {name: summary[name] for name in names if summary[name] is not None}
