"""What `pathgen static` finds: the best path of each depth for all questions of a task, and what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..artefacts import JsonArtefact
from ..errors import ArtefactError, InputError
from ..paths.layer_path import LayerPath

SHALLOW_LOSS = 0.01
"""Accuracy that `StaticPaths.shallow` may lose against full depth."""
GAIN_ERRORS = 1.0
"""A path takes the full one's place where what it gains exceeds so many standard errors of the paired difference."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Worth:
    """What choosing both depth and path is worth: each question is judged on what was chosen without its fold.

    It is told however it turns out and whatever is deployed, and so is free of the luck of the depth that won.

    Attributes:
        cv_accuracy: share right, in 0..1.
        cv_delta_vs_full: that minus the full path's accuracy.
        cv_delta_se: paired standard error of that difference.
    """

    cv_accuracy: float
    cv_delta_vs_full: float
    cv_delta_se: float


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A path and its worth. Accuracies and quality are means over questions, in 0..1.

    Attributes:
        path: chosen on all questions.
        accuracy: of it on those very questions, and so too high by the luck of having been chosen.
        quality: the same in quality.
        cv_accuracy: of the paths of this depth chosen without the questions they are judged on. Of one depth it is
            fair; of the depth that is picked for it, it is too high again: see `Worth`.
        cv_delta_vs_full: that minus the full path's accuracy.
        cv_delta_se: paired standard error of that difference.
    """

    DERIVED = ("depth",)

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


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What the joint choice is worth on the questions of one folder.

    Attributes:
        folder: as it was named.
        task: name of its task.
        questions: how many of it took part.
        full_accuracy: of the full path.
        choice_cv_accuracy: of what `StaticPaths.choice` is about.
        choice_cv_delta_se: paired standard error of its difference to the full path.
        shallow_cv_accuracy: of what `StaticPaths.shallow_choice` is about.
        own_path: the best for this folder's questions alone; the full path where no other is clearly better.
        own_cv_accuracy: of choosing depth and path for this folder alone, cross-validated.
    """

    folder: str
    task: str
    questions: int
    full_accuracy: float
    choice_cv_accuracy: float
    choice_cv_delta_se: float
    shallow_cv_accuracy: float
    own_path: LayerPath
    own_cv_accuracy: float


@dataclass(frozen=True, slots=True)
class StaticPaths(JsonArtefact):
    """The static paths of a model for one or several tasks.

    Attributes:
        model_id: alias, hub id or folder of the model.
        fingerprint: of its weights.
        tasks: names of the tasks.
        chat: whether prompts went through the chat template.
        num_layers: L, of the model.
        questions: how many the paths were judged on.
        folds: of the cross-validation.
        seed: of the folds and of the order of questions.
        full: the full path; nothing was chosen there, so its `cv_accuracy` is its accuracy.
        frontier: the best path of each depth, shallowest first.
        choice: what choosing the most accurate of any depth is worth.
        shallow_choice: what choosing as `shallow` does is worth.
        chosen_on: shas of the questions that took part, those included that only proposed paths.
        per_folder: the same choice by folder.

    Raises:
        ValueError: a path of another number of layers.
    """

    VERSION = ("schema_version", 3)
    REMEDY = "run `pathgen static` again"
    DERIVED = ("best", "shallow")
    DAMAGED = "{where} is no output of `pathgen static`, or damaged ({error})"

    model_id: str = field(metadata={"at": "model.id"})
    fingerprint: str = field(metadata={"at": "model.fingerprint"})
    tasks: tuple[str, ...]
    chat: bool
    num_layers: int
    questions: int
    folds: int
    seed: int
    full: PathEntry
    frontier: tuple[PathEntry, ...]
    choice: Worth
    shallow_choice: Worth
    chosen_on: tuple[str, ...]
    per_folder: tuple[FolderResult, ...]

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
        """Of highest cross-validated accuracy at any depth; the full path unless the gain of it is clear."""
        return or_full((*self.frontier, self.full), self.choice)

    @property
    def shallow(self) -> PathEntry:
        """The shallowest whose cross-validated accuracy is within SHALLOW_LOSS of full depth."""
        return shallow_enough((*self.frontier, self.full))

    def at_depth(self, target: int) -> LayerPath:
        """`best` where it fits, else the path of highest cross-validated accuracy of at most `target` executions.

        Raises:
            InputError: every path is deeper.
        """
        entries = (self.best, *self.frontier, self.full)
        fitting = [entry for entry in entries if entry.depth <= target]
        if not fitting:
            shallowest = min(entry.depth for entry in entries)
            raise InputError(f"no static path has depth {target} or less; the shallowest has {shallowest}")
        return fitting[0].path if fitting[0] == self.best else most_accurate(fitting).path

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


def most_accurate(entries: Sequence[PathEntry]) -> PathEntry:
    """The highest cross-validated accuracy, of equal ones the fewest layers, then the fewest edits."""
    return min(entries, key=lambda entry: (-entry.cv_accuracy, entry.depth, entry.path.edits))


def or_full(entries: Sequence[PathEntry], choice: Worth) -> PathEntry:
    """The most accurate, unless its gain, or that of choosing at all, is within GAIN_ERRORS: then the full path.

    Args:
        entries: of each depth, the full path last.
        choice: what choosing the most accurate is worth.
    """
    found = most_accurate(entries)
    clear = (gain.cv_delta_vs_full > GAIN_ERRORS * gain.cv_delta_se for gain in (found, choice))
    return found if all(clear) else entries[-1]


def shallow_enough(entries: Sequence[PathEntry]) -> PathEntry:
    """The shallowest below full depth that loses no more than SHALLOW_LOSS against it; the full path if none.

    Args:
        entries: of each depth, shallowest first and the full path last.
    """
    full = entries[-1]
    enough = full.accuracy - SHALLOW_LOSS - ROUNDING
    shallower = (entry for entry in entries if entry.depth < full.depth)
    return next((entry for entry in shallower if entry.cv_accuracy >= enough), full)
