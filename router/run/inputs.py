"""What a training rests on: options, path datasets, the frozen model, development questions, static paths."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError, InputError
from pathgen.models.devices import default_device
from pathgen.models.facts import num_layers
from pathgen.models.reading import load_config
from pathgen.models.resolving import resolve_recorded
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import seeded_hash
from pathgen.static.candidates import shallowest_depth
from pathgen.static.draw import TooFewQuestions
from pathgen.static.static_paths import StaticPaths
from pathgen.store.files import check_writable

from ..data.path_datasets import PathDatasets
from ..data.split import check_disjoint, held_out, twins_of_dev
from ..dev.dev_set import DevQuestion, DevSet, dev_questions
from ..gates.rounding import SKIPPED_AT_MOST
from ..net.config import RouterConfig
from ..saved.folder import check_folder, finish_swap, local_folder
from .options import TrainOptions
from .static_choice import find_static, given_static, static_path

MAX_DEV_QUESTIONS = 1000
"""Development questions that the model is run on; of more the first by hash."""


class TrainingInputs:
    """Options, datasets, model and development questions; what can be refused is refused before a model loads.

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
            _check_reach(options, self.training.num_layers)
        for place in (self.folder.parent, self.folder):
            check_writable(LocalFileSystem(), str(place), f"--out {options.out}")
        self.device = _device_here(options.features.device)
        self.left_out: frozenset[str] = frozenset()
        if not self.development:
            self.left_out = twins_of_dev(self.training.rows(), self.is_dev)

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
        return self.development is not None or not (self.is_dev(question_id) or question_id in self.left_out)

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


def _check_reach(options: TrainOptions, num_layers: int) -> None:
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
