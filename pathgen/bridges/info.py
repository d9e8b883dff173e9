"""What bridges were fitted on, as their folder tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..artefacts import JsonArtefact


@dataclass(frozen=True, slots=True)
class Distillation:
    """Training of the maps along a path, on divergence from full depth.

    Attributes:
        steps: behind the maps; 0: none was better than the closed form.
        learning_rate: the highest one.
        before: mean KL(full ‖ path) on held-out tokens before it, in nats.
        after: the same with these maps; it chose them, so it is a little too low.
    """

    steps: int
    learning_rate: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class BridgesInfo(JsonArtefact):
    """What bridges were fitted on, and how well.

    Attributes:
        model_id: alias, hub id or folder of the model.
        fingerprint: of the model's weights.
        num_layers: of the model, L.
        width: values of a state, H.
        rank: of the maps; None: whole maps.
        ridge: weight of the penalty of the fit.
        text: the sources of the text.
        tokens: number of tokens fitted on.
        r2: [L] share of each layer's changes that its bridge explains, on held-out tokens.
        along: the path whose states the maps were fitted on, as its text; None: the full path's.
        digest: of the weights' file.
        distilled: how the maps along that path were trained further; None: they were not.
    """

    VERSION = ("schema_version", 1)
    REMEDY = "fit the bridges again"
    DAMAGED = "{where} is no output of `pathgen bridge`, or damaged ({error})"

    model_id: str = field(metadata={"at": "model.id"})
    fingerprint: str = field(metadata={"at": "model.fingerprint"})
    num_layers: int
    width: int
    rank: int | None
    ridge: float
    text: tuple[str, ...]
    tokens: int
    r2: tuple[float, ...]
    digest: str
    along: str | None = None
    distilled: Distillation | None = None

    @property
    def parameters(self) -> int:
        """Number of values of one map."""
        linear = self.width**2 if self.rank is None else 2 * self.rank * self.width
        return linear + self.width
