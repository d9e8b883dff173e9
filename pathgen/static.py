"""What `pathgen static` finds: the best path of each depth for all questions of a task, and what each is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .actions import LayerPath
from .errors import ArtefactError, InputError

SCHEMA_VERSION = 2
SHALLOW_LOSS = 0.01
"""Accuracy that `StaticPaths.shallow` may lose against full depth."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A path and its worth. Accuracies and quality are means over questions, in 0..1.

    Attributes:
        path: chosen on all questions.
        accuracy: of it on those very questions, and so too high by the luck of having been chosen.
        quality: the same in quality.
        cv_accuracy: of the paths of this depth chosen without the questions they are judged on.
        cv_delta_vs_full: that minus the full path's accuracy.
        cv_delta_se: paired standard error of that difference.
    """

    path: LayerPath
    accuracy: float
    quality: float
    cv_accuracy: float
    cv_delta_vs_full: float
    cv_delta_se: float

    @property
    def depth(self) -> int:
        """Layer executions of one forward pass."""
        return self.path.depth

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"depth": self.depth, **asdict(self), "path": list(self.path)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PathEntry:
        """The inverse of `to_dict`."""
        values = {name: float(stored[name]) for name in cls.__dataclass_fields__ if name != "path"}
        return cls(LayerPath(stored["path"]), **values)


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What the joint choice is worth on the questions of one folder.

    Attributes:
        folder: as it was named.
        task: name of its task.
        questions: how many of it took part.
        full_accuracy: of the full path.
        best_cv_accuracy: of the depth of `StaticPaths.best`, cross-validated.
        best_cv_delta_se: paired standard error of its difference to the full path.
        shallow_cv_accuracy: of the depth of `StaticPaths.shallow`, cross-validated.
        own_path: the best of any depth for this folder's questions alone.
        own_cv_accuracy: of the paths of its depth chosen for this folder alone, cross-validated.
    """

    folder: str
    task: str
    questions: int
    full_accuracy: float
    best_cv_accuracy: float
    best_cv_delta_se: float
    shallow_cv_accuracy: float
    own_path: LayerPath
    own_cv_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "own_path": list(self.own_path)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FolderResult:
        """The inverse of `to_dict`."""
        return cls(**{**stored, "own_path": LayerPath(stored["own_path"])})


@dataclass(frozen=True, slots=True)
class StaticPaths:
    """The static paths of a model for one or several tasks.

    Attributes:
        model_id: alias, hub id or folder of the model.
        fingerprint: of its weights.
        tasks: names of the tasks.
        chat: whether prompts went through the chat template.
        num_layers: L, of the model.
        questions: how many took part.
        folds: of the cross-validation.
        seed: of the folds and of the order of questions.
        full: the full path; nothing was chosen there, so its `cv_accuracy` is its accuracy.
        frontier: the best path of each depth, shallowest first.
        per_folder: the same choice by folder.

    Raises:
        ValueError: a path of another number of layers.
    """

    model_id: str
    fingerprint: str
    tasks: tuple[str, ...]
    chat: bool
    num_layers: int
    questions: int
    folds: int
    seed: int
    full: PathEntry
    frontier: tuple[PathEntry, ...]
    per_folder: tuple[FolderResult, ...] = ()

    def __post_init__(self) -> None:
        """Check the paths."""
        own = [result.own_path for result in self.per_folder]
        for path in (self.full.path, *(entry.path for entry in self.frontier), *own):
            if len(path) != self.num_layers:
                raise ValueError(f"a path has {len(path)} layers, the model {self.num_layers}")
        if self.full.path != LayerPath.full(self.num_layers):
            raise ValueError("full is not the full path")

    @property
    def best(self) -> PathEntry:
        """Of highest cross-validated accuracy at any depth; the full path if none is better."""
        return min((*self.frontier, self.full), key=_preference)

    @property
    def shallow(self) -> PathEntry:
        """The shallowest whose cross-validated accuracy is within SHALLOW_LOSS of full depth."""
        enough = self.full.accuracy - SHALLOW_LOSS - ROUNDING
        shallower = (entry for entry in self.frontier if entry.depth < self.num_layers)
        return next((entry for entry in shallower if entry.cv_accuracy >= enough), self.full)

    def at_depth(self, target: int) -> LayerPath:
        """The path of highest cross-validated accuracy among those of at most `target` layer executions.

        Raises:
            InputError: every path is deeper.
        """
        entries = (*self.frontier, self.full)
        fitting = [entry for entry in entries if entry.depth <= target]
        if not fitting:
            shallowest = min(entry.depth for entry in entries)
            raise InputError(f"no static path has depth {target} or less; the shallowest has {shallowest}")
        return min(fitting, key=_preference).path

    def check_matches(self, fingerprint: str, num_layers: int, where: str) -> None:
        """See that these paths are of that model.

        Args:
            fingerprint: of the model that is to run them.
            num_layers: of it.
            where: the file they were read from.

        Raises:
            ArtefactError: they are not.
        """
        if (self.fingerprint, self.num_layers) != (fingerprint, num_layers):
            raise ArtefactError(
                f"{where} is of {self.model_id} ({self.fingerprint}, {self.num_layers} layers), "
                f"the model here is {fingerprint} with {num_layers} layers; run `pathgen static` on its own paths"
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, `best` and `shallow` included for readers."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"id": self.model_id, "fingerprint": self.fingerprint},
            "tasks": list(self.tasks),
            "chat": self.chat,
            "num_layers": self.num_layers,
            "questions": self.questions,
            "folds": self.folds,
            "seed": self.seed,
            "full": self.full.to_dict(),
            "best": self.best.to_dict(),
            "shallow": self.shallow.to_dict(),
            "frontier": [entry.to_dict() for entry in self.frontier],
            "per_folder": [result.to_dict() for result in self.per_folder],
        }

    def to_json(self) -> bytes:
        """As the content of a file."""
        return (json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> StaticPaths:
        """The inverse of `to_json`.

        Args:
            content: of the file.
            where: its name, for errors.

        Raises:
            ArtefactError: it is damaged, incomplete, or of another schema version.
        """
        try:
            stored = json.loads(content)
            if (version := stored["schema_version"]) != SCHEMA_VERSION:
                raise ArtefactError(
                    f"{where} has schema version {version}, this layerpaths reads {SCHEMA_VERSION}: "
                    "run `pathgen static` again"
                )
            found = cls(
                model_id=stored["model"]["id"],
                fingerprint=stored["model"]["fingerprint"],
                tasks=tuple(stored["tasks"]),
                **{name: stored[name] for name in ("chat", "num_layers", "questions", "folds", "seed")},
                full=PathEntry.from_dict(stored["full"]),
                frontier=tuple(PathEntry.from_dict(entry) for entry in stored["frontier"]),
                per_folder=tuple(FolderResult.from_dict(result) for result in stored["per_folder"]),
            )
            if found.to_dict() != stored:  # something too much, or values that contradict each other
                raise ValueError("its entries do not fit together")
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{where} is no output of `pathgen static`, or damaged ({error})") from error
        return found


def load_static(path: str) -> StaticPaths:
    """The static paths in a file.

    Raises:
        InputError: the file cannot be read.
        ArtefactError: it is no output of `pathgen static`.
    """
    try:
        return StaticPaths.from_json(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); `pathgen static --out {path}` makes it") from error


def _preference(entry: PathEntry) -> tuple[float, int, int]:
    """Smallest for the entry to prefer: the highest cross-validated accuracy, then fewer layers, then fewer edits."""
    return -entry.cv_accuracy, entry.depth, entry.path.edits
