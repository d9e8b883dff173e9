"""What a training needs: options, path datasets, the frozen model, development questions, static paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pathgen.bridges.folder import folder_info, load_bridges
from pathgen.bridges.maps import Bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import ArtefactError, InputError
from pathgen.identity import differences, shown
from pathgen.models.devices import default_device
from pathgen.models.facts import num_layers
from pathgen.models.reading import load_config
from pathgen.models.resolving import resolve_recorded
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import seeded_hash
from pathgen.static.candidates import shallowest_depth
from pathgen.static.draw import TooFewQuestions
from pathgen.static.options import StaticOptions
from pathgen.static.run import find_static_paths
from pathgen.static.static_paths import AnyStaticPaths, load_static
from pathgen.store.files import check_writable

from ..data.path_datasets import PathDatasets
from ..data.split import check_disjoint, held_out, twins_of_dev
from ..dev.dev_set import DevQuestion, DevSet, dev_questions
from ..gates.rounding import SKIPPED_AT_MOST
from ..net.config import RouterConfig, allowed_actions
from ..saved.folder import prepare_folder
from ..saved.layout import STATIC_NAME
from ..training.tracking import Tracker
from .options import TrainOptions

MAX_DEV_QUESTIONS = 1000
"""Limit of development questions that the model runs on: the first ones by hash."""


class TrainingInputs:
    """The inputs of one training, checked before a model loads. `tell` prints one line for the user.

    Raises:
        InputError: bad folders, options that do not fit them, or development questions that are trained on.
        ArtefactError: folders of different models, damaged ones, or a static path of another model.
    """

    def __init__(self, options: TrainOptions, tell: Callable[[str], None]):
        self.options = options
        self.tell = tell
        self.folder = prepare_folder(options.out)
        self.training = PathDatasets(options.paths)
        self.training.check_askable()
        self.development = PathDatasets(options.dev) if options.dev else None
        if self.development:
            self._check_development(self.development)
            self.development.check_askable()
        self.model_name = options.model or self.training.model_id
        self.hidden_size = self._hidden_size()
        self.given_static = self._given_static()
        self._check_bridges()
        self._check_target_depth()
        for place in (self.folder.parent, self.folder):
            check_writable(LocalFileSystem(), str(place), f"--out {options.out}")
        self.device = self._device()
        self.left_out: frozenset[str] = frozenset()
        if not self.development:
            self.left_out = twins_of_dev(self.training.rows(), self.is_dev)
        self.tracker = Tracker(
            options.tracker if options.method == "imitate" else "none",
            self.folder,
            {"method": options.method, "labels": options.labels},
        )

    @cached_property
    def model(self) -> PathModel:
        """The frozen model in this process, as the search ran it.

        It loads on first use, so that the actors of the feature pass have the memory before.
        """
        dtype = self.options.features.dtype or self.training.dtype
        model = PathModel.from_pretrained(self.model_name, dtype=dtype, device=self.device)
        model.use_bridges(self.bridges)
        return model

    @cached_property
    def bridges(self) -> Bridges | None:
        """The bridges that run where the router skips: those of --bridges, else those of the runs; None without."""
        if self.options.bridges is not None:
            return load_bridges(self.options.bridges, self.training.fingerprint)
        return self.training.load_bridges()

    @cached_property
    def dev_questions(self) -> list[DevQuestion]:
        """The development questions; if there are too many, a random part in which every folder keeps its share."""
        found = dev_questions(self.development or self.training, self.is_dev)
        return sorted(found, key=lambda entry: seeded_hash(0, entry.question.id))[:MAX_DEV_QUESTIONS]

    @cached_property
    def dev(self) -> DevSet:
        """The development questions with the model that answers them."""
        return DevSet(self.model, self.dev_questions, self.training.chat, quiet=self.options.quiet)

    @cached_property
    def tuning(self) -> DevSet:
        """The development questions that scale, bias and path are chosen on."""
        return self.dev.part(lambda question: self.is_tuned_on(question.id)) if self._halved else self.dev

    @cached_property
    def static_paths(self) -> AnyStaticPaths | None:
        """The static paths of --static, or those found by a search if the method follows them; None without."""
        options = self.options
        if self.given_static is not None or not options.follows_static:
            return self.given_static
        search = StaticOptions(
            paths=options.paths,
            out=str(self.folder / STATIC_NAME),
            model=self.model_name,
            bridges=options.bridges,
            device=self.device,
            dtype=options.features.dtype,
            seed=options.training.seed,
            quiet=options.quiet,
        )
        try:
            return find_static_paths(search, self.is_trained)
        except TooFewQuestions as error:
            if options.target_depth is not None and options.target_depth < self.training.num_layers:
                raise
            self.tell(f"warning: no path was searched for, the full one is deployed: {error}")
            return None

    @cached_property
    def static_path(self) -> LayerPath | None:
        """The best static path within --target-depth; None if there are no static paths."""
        return None if self.static_paths is None else self._best_path(self.static_paths)

    @property
    def chosen_on(self) -> frozenset[str]:
        """Shas of the questions that any choice is made on: all development questions, and those of the static path.

        Without a stated risk, method static chooses nothing on development questions.
        """
        found = frozenset(self.static_paths.chosen_on) if self.static_paths else frozenset()
        if self.options.method == "static" and not self.options.stated_risk:
            return found
        asked = (self.development or self.training).questions()
        return found | {question.sha for question in asked if self.is_dev(question.id)}

    def is_dev(self, question_id: str) -> bool:
        """Whether this is a development question: any of --dev, or without --dev a held-out one of --paths."""
        return self.development is not None or held_out(question_id, self.options.share_held_out)

    def is_tuned_on(self, question_id: str) -> bool:
        """Whether something may be chosen on this development question.

        With a stated risk, half of them are kept for its test, unless static paths are followed: those tune nothing.
        """
        return self.is_dev(question_id) and not (self._halved and held_out(question_id, 0.5, seed=1))

    def is_trained(self, question_id: str) -> bool:
        """Whether this question of --paths may be trained on."""
        return self.development is not None or not (self.is_dev(question_id) or question_id in self.left_out)

    def within_actions(self, found: AnyStaticPaths) -> AnyStaticPaths:
        """These static paths without those of actions that are not allowed."""
        return found.of_actions(allowed_actions(self.options.actions))

    def config(self, **changes: Any) -> RouterConfig:
        """The router's config: the settings that all methods share, with changes."""
        shared = RouterConfig(
            base_model=self.model_name,
            base_fingerprint=self.training.fingerprint,
            num_layers=self.training.num_layers,
            hidden_size=self.hidden_size,
            tasks=self.training.tasks,
            chat=self.training.chat,
            method=self.options.method,
            actions=self.options.actions,
            pooling=self.options.pooling,
            width=self.options.width,
            bridges=self.bridges.digest if self.bridges else None,
        )
        return replace(shared, **changes)

    @property
    def _halved(self) -> bool:
        return self.options.stated_risk is not None and not self.options.follows_static

    def _check_development(self, development: PathDatasets) -> None:
        parts = differences(self.training.fingerprint, development.fingerprint)
        prints = [shown(datasets.fingerprint) if parts else "" for datasets in (self.training, development)]
        for name, ours, theirs in (
            (" and ".join(["fingerprint", *parts]), prints[0], prints[1]),
            ("number of layers", self.training.num_layers, development.num_layers),
            ("chat setting", bool(self.training.chat), bool(development.chat)),
        ):
            if ours != theirs:
                raise ArtefactError(
                    f"--dev {self.options.dev[0]} and --paths {self.options.paths[0]} are not of one model, searched "
                    f"alike: their {name} is {theirs} and {ours}"
                )
        check_disjoint(self.training.questions(), development.questions())

    def _hidden_size(self) -> int:
        """H of the model, after a check that the paths are of this model."""
        where = self.options.paths[0]
        folder = resolve_recorded(self.model_name, self.training.fingerprint, where)
        if num_layers(folder) != self.training.num_layers:
            raise ArtefactError(
                f"{where} holds paths of {self.training.num_layers} layers, {self.model_name} has {num_layers(folder)}"
            )
        return int(load_config(folder).get_text_config().hidden_size)

    def _given_static(self) -> AnyStaticPaths | None:
        """The content of --static, if the method reads it; checked for a path that the options allow."""
        where = self.options.static
        if where is None or self.options.method == "gates":
            return None
        found = load_static(where)
        found.check_matches(self.training.fingerprint, self.training.num_layers, where)
        found.check_bridges(self._bridges_digest, where)
        self._best_path(found)
        return found

    @property
    def _bridges_digest(self) -> str | None:
        """Names the bridges that run, before they are read."""
        given = self.options.bridges
        if given is None:
            return self.training.bridges
        return folder_info(given, self.training.fingerprint).digest

    def _check_bridges(self) -> None:
        """Check that heads imitate paths which ran over the bridges that the router will have."""
        own, options = self.training.bridges, self.options
        if options.bridges is None or options.method != "imitate":
            return
        if self._bridges_digest != own:
            searched = f"over bridges {own}" if own else "without bridges"
            raise ArtefactError(
                f"--bridges {options.bridges} are {self._bridges_digest}, and {options.paths[0]} was searched "
                f"{searched}; imitate learns from paths of the same bridges: search again with `pathgen generate "
                "--bridges`"
            )

    def _best_path(self, found: AnyStaticPaths) -> LayerPath:
        """The best path of allowed actions within --target-depth.

        Raises:
            InputError: no path is within --target-depth.
        """
        fitting, depth = self.within_actions(found), self.options.target_depth
        return fitting.best.path if depth is None else fitting.at_depth(int(depth))

    def _check_target_depth(self) -> None:
        """Check that the gates, or the search for a static path, can reach the target depth."""
        options, layers = self.options, self.training.num_layers
        if options.target_depth is None or options.method == "imitate" or self.given_static is not None:
            return
        if options.method == "gates":
            shallowest, what = layers - layers // SKIPPED_AT_MOST, "gates are rounded to"
        else:
            shallowest, what = shallowest_depth(layers), "is searched for method static"
        if "skip" not in options.actions:
            shallowest = layers
        if options.target_depth < shallowest:
            raise InputError(
                f"--target-depth {options.target_depth:g} is below {shallowest}, the shallowest path that {what} with "
                f"--actions {','.join(options.actions)}"
            )

    def _device(self) -> str:
        """The device of this process; the actors of a cluster may have others."""
        wanted, found = self.options.features.device, default_device()
        if wanted is not None and wanted.startswith("cuda") and found == "cpu":
            raise InputError(
                f"--device {wanted}: torch sees no CUDA device here, where the router is trained; leave it out, and "
                "the actors of a cluster find their own"
            )
        return wanted or found
