"""The result of `pathgen static`: the best path of each depth for all questions of a task, with its accuracy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..evaluation.intervals import difference_interval
from ..paths.layer_path import LayerPath
from .divergence_paths import DivergencePaths, PathsArtefact, too_shallow

SHALLOW_LOSS = 0.01
"""Accuracy that `StaticPaths.shallow` may lose against full depth."""
GAIN_ERRORS = 1.0
"""A path replaces the full path if its gain exceeds so many standard errors of the paired difference."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Worth:
    """Accuracy, in 0..1, on questions that the choice did not use; its gain over the full path with a paired error.

    When depth and path are both chosen without a question's fold, the result has no selection bias. So it is reported
    whatever its outcome, and whichever path is deployed.
    """

    cv_accuracy: float
    cv_delta_vs_full: float
    cv_delta_se: float


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A path chosen on all questions, with means over questions, in 0..1.

    `accuracy` and `quality` are in sample, so they are too high. The other three are as in `Worth`, for paths of this
    depth alone: they are unbiased for one depth, but too high for a depth that is chosen by them.
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
    """The held-out accuracy of `StaticPaths.choice` and `shallow_choice` on the questions of one folder.

    `own_path` and `own_cv_accuracy` are what choosing for this folder alone gives; the full path where no other is
    clearly better.
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

    @property
    def choice(self) -> Worth:
        """What `StaticPaths.choice` is worth on the questions of this folder."""
        gain = self.choice_cv_accuracy - self.full_accuracy
        return Worth(self.choice_cv_accuracy, gain, self.choice_cv_delta_se)


@dataclass(frozen=True, slots=True)
class StaticPaths(PathsArtefact):
    """The static paths of a model for one or several tasks.

    Attributes:
        model_id: alias, hub id or folder of the model.
        chat: whether prompts went through the chat template.
        questions: number of questions that judged the paths.
        seed: of the folds and of the order of questions.
        full: the full path; its `cv_accuracy` is its accuracy.
        frontier: the best path of each depth, shallowest first.
        choice: held-out result of choosing the most accurate path of any depth.
        shallow_choice: held-out result of choosing as `shallow` does.
        chosen_on: shas of all questions that took part, also those that only proposed paths.
        bridges: digest of the bridges that ran where paths skip; None: none.
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
    bridges: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a path with another number of layers."""
        own = [result.own_path for result in self.per_folder]
        self.check_paths(self.full.path, [*(entry.path for entry in self.frontier), *own])

    @property
    def best(self) -> PathEntry:
        """The path with the highest held-out accuracy of any depth; the full path unless the gain is clear."""
        return or_full((*self.frontier, self.full), self.choice)

    @property
    def shallow(self) -> PathEntry:
        """The shallowest path whose held-out accuracy is within SHALLOW_LOSS of full depth."""
        return shallow_enough((*self.frontier, self.full))

    def at_depth(self, target: int) -> LayerPath:
        """`best` if it fits, else the path with the highest held-out accuracy of at most `target` layer executions.

        Raises:
            InputError: every path is deeper.
        """
        if self.best.depth <= target:
            return self.best.path
        entries = (*self.frontier, self.full)
        fitting = [entry for entry in entries if entry.depth <= target]
        if not fitting:
            raise too_shallow(target, min(entry.depth for entry in entries))
        return most_accurate(fitting).path


AnyStaticPaths = StaticPaths | DivergencePaths
"""By accuracy, or by divergence: both have `full`, `frontier`, `best`, `shallow`, `at_depth` and `chosen_on`."""


def load_static(path: str) -> AnyStaticPaths:
    """The static paths in a file, of either target; InputError if it cannot be read, ArtefactError if it holds
    something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); `pathgen static --out {path}` makes it") from error
    with suppress(ValueError, AttributeError, RecursionError):  # what is no JSON object, the strict reader refuses
        if json.loads(content).get("target") == "divergence":
            return DivergencePaths.from_json(content, path)
    return StaticPaths.from_json(content, path)


def gain_interval(worth: Worth | PathEntry, questions: int, seed: int) -> tuple[float, float]:
    """95 % interval of the gain over the full path, from the accuracy gained and its error on so many questions.

    Both are of differences −1, 0 and 1, so they hold how many questions were won and lost.
    """
    gain, squared_error = worth.cv_delta_vs_full, worth.cv_delta_se**2
    net = round(questions * gain)
    differing = round(squared_error * questions * (questions - 1) + questions * gain**2)
    differing = min(max(differing, abs(net)), questions)
    won = (differing + net) // 2
    return difference_interval(won, differing - won, questions, seed)


def most_accurate(entries: Sequence[PathEntry]) -> PathEntry:
    """The entry with the highest held-out accuracy; ties go to the fewest layers, then the fewest edits."""
    return min(entries, key=lambda entry: (-entry.cv_accuracy, entry.depth, entry.path.edits))


def or_full(entries: Sequence[PathEntry], choice: Worth) -> PathEntry:
    """The most accurate entry if its gain and that of `choice` exceed GAIN_ERRORS; else the last, the full path."""
    found = most_accurate(entries)
    clear = (gain.cv_delta_vs_full > GAIN_ERRORS * gain.cv_delta_se for gain in (found, choice))
    return found if all(clear) else entries[-1]


def shallow_enough(entries: Sequence[PathEntry]) -> PathEntry:
    """The first entry below full depth that loses at most SHALLOW_LOSS; the full path, the last, if none does.

    The entries are ordered by depth, shallowest first.
    """
    full = entries[-1]
    enough = full.accuracy - SHALLOW_LOSS - ROUNDING
    shallower = (entry for entry in entries if entry.depth < full.depth)
    return next((entry for entry in shallower if entry.cv_accuracy >= enough), full)
