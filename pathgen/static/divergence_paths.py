"""The result of `pathgen static --target divergence`: the path of each depth that stays closest to full depth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, cast

from ..artefacts import JsonArtefact
from ..errors import ArtefactError, InputError
from ..identity import differences, shown
from ..paths.layer_path import LayerPath

SHALLOW_AGREEMENT = 0.98
"""Share of held-out questions on which `DivergencePaths.shallow` chooses as full depth does."""


@dataclass(frozen=True, slots=True)
class DivergenceEntry:
    """A path, with means over the held-out questions, which the search did not use, and their standard errors.

    Attributes:
        divergence: KL(full ‖ path) at the scored positions, in nats.
        agreement: in 0..1, as in `Difference`.
        accuracy: in 0..1; None if not every held-out question has a gold choice.
        flops_ratio: FLOPs of the layers that run, and of the bridges where it skips, over those of all layers.
    """

    DERIVED = ("depth",)

    path: LayerPath
    divergence: float
    divergence_se: float
    agreement: float
    agreement_se: float
    accuracy: float | None
    flops_ratio: float

    @property
    def depth(self) -> int:
        """Layer executions of one forward pass."""
        return self.path.depth


class PathsArtefact(JsonArtefact):
    """What files of static paths share, whatever chose them; their dataclasses have these fields."""

    __slots__ = ()

    model_id: str
    fingerprint: str
    num_layers: int
    frontier: tuple[Any, ...]
    bridges: str | None

    def of_actions(self, allowed: Collection[int]) -> Self:
        """The same without the paths that have other actions."""
        frontier = tuple(entry for entry in self.frontier if set(entry.path) <= set(allowed))
        return cast(Self, replace(cast(Any, self), frontier=frontier))

    def check_paths(self, full: LayerPath, others: Sequence[LayerPath]) -> None:
        """Raise ValueError for a path with another number of layers, or a full path that is none."""
        for path in (full, *others):
            if len(path) != self.num_layers:
                raise ValueError(f"a path has {len(path)} layers, the model {self.num_layers}")
        if full != LayerPath.full(self.num_layers):
            raise ValueError("full is not the full path")

    def check_matches(self, fingerprint: str, num_layers: int, where: str) -> None:
        """Raise ArtefactError if these paths, read from the file `where`, are of another model."""
        if self.num_layers != num_layers or differences(self.fingerprint, fingerprint):
            raise ArtefactError(
                f"{where} is of {self.model_id} ({shown(self.fingerprint)}, {self.num_layers} layers), the model here "
                f"is {shown(fingerprint)} with {num_layers} layers; run `pathgen static` on its own paths"
            )

    def check_bridges(self, digest: str | None, where: str) -> None:
        """Raise ArtefactError if these paths, read from the file `where`, need other bridges than those that run."""
        if self.bridges is not None and self.bridges != digest:
            instead = f"bridges {digest}" if digest else "no bridges"
            raise ArtefactError(
                f"{where} was found with bridges {self.bridges}, and here {instead} run; give those with --bridges, or "
                "run `pathgen static` without"
            )


@dataclass(frozen=True, slots=True)
class DivergencePaths(PathsArtefact):
    """The static paths of a model by divergence. It is read where `StaticPaths` is.

    Attributes:
        model_id: alias, hub id or folder of the model.
        tasks: that the questions were asked in.
        chat: whether prompts went through the chat template.
        questions: number of held-out questions.
        seed: of the halves.
        full: the full path.
        frontier: the path of each depth, shallowest first.
        forward_tokens: the work of search and check: token executions of layers, over the number of layers.
        bridges: digest of the bridges that ran where paths skip; None: none.
        searched_on: shas of the questions that the search used.
        judged_on: shas of the held-out questions.
    """

    VERSION = ("schema_version", 1)
    REMEDY = "run `pathgen static` again"
    DAMAGED = "{where} is no output of `pathgen static --target divergence`, or damaged ({error})"

    per_folder: ClassVar[tuple[()]] = ()
    """As in `StaticPaths`: no path is chosen for one folder alone."""

    target: Literal["divergence"]
    model_id: str = field(metadata={"at": "model.id"})
    fingerprint: str = field(metadata={"at": "model.fingerprint"})
    tasks: tuple[str, ...]
    chat: bool
    num_layers: int
    questions: int
    seed: int
    full: DivergenceEntry
    frontier: tuple[DivergenceEntry, ...]
    forward_tokens: float
    bridges: str | None
    searched_on: tuple[str, ...]
    judged_on: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for another target, or a path with another number of layers."""
        if self.target != "divergence":
            raise ValueError(f"target is {self.target!r}, not 'divergence'")
        self.check_paths(self.full.path, [entry.path for entry in self.frontier])

    @property
    def chosen_on(self) -> tuple[str, ...]:
        """Shas of all questions that took part; the held-out ones choose among depths."""
        return tuple(sorted({*self.searched_on, *self.judged_on}))

    @property
    def best(self) -> DivergenceEntry:
        """The full path: nothing diverges less."""
        return self.full

    @property
    def shallow(self) -> DivergenceEntry:
        """The shallowest path that agrees with full depth on SHALLOW_AGREEMENT of the held-out questions."""
        return next((entry for entry in self.frontier if entry.agreement >= SHALLOW_AGREEMENT), self.full)

    def at_depth(self, target: int) -> LayerPath:
        """The path with the least held-out divergence of at most `target` layer executions.

        Raises:
            InputError: every path is deeper.
        """
        entries = (*self.frontier, self.full)
        fitting = [entry for entry in entries if entry.depth <= target]
        if not fitting:
            raise too_shallow(target, entries[0].depth)
        return min(fitting, key=lambda entry: (entry.divergence, entry.depth)).path


def too_shallow(target: int, shallowest: int) -> InputError:
    """The error for a depth that no static path has."""
    return InputError(f"no static path has depth {target} or less; the shallowest has {shallowest}")
