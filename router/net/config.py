"""The config of a router: everything but its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, get_args

from pathgen.artefacts import JsonArtefact
from pathgen.paths.layer_path import LayerAction

from .pooling import Pooling

MAX_SIZE = 100_000
"""Limit of layers, hidden sizes and widths: a larger config is damaged, and would fill the memory."""
TIE_ORDER = (LayerAction.EXECUTE, LayerAction.SKIP, LayerAction.REPEAT)
"""If logits are equal, the first action here is taken."""
HeadKind = Literal["none", "bottleneck", "low_rank"]


@dataclass(frozen=True, slots=True)
class RouterConfig(JsonArtefact):
    """A router's settings and origin, as in its config.json.

    Attributes:
        base_model: alias or id of the frozen model, only shown.
        base_fingerprint: of its weights, compared (`pathgen.models.facts.fingerprint`).
        chat: whether prompts used the chat template; the day of the chat, where the template prints one.
        labels: label policy; None if there are no labels.
        actions: names of the actions it may choose.
        head: the part that reads the prompt: `none` (static only), `bottleneck` or `low_rank`.
        width: of the bottleneck, or the rank.
        scale: α, the factor of the head's logits, which are added to the static part's; 0 is static only.
        bias: added to every SKIP logit and subtracted from every REPEAT logit, in addition to the user's bias.
        bridges: digest of the bridges in its folder, which run where it skips; None without.
        fall_back_below: of a cascade, which has no head: prompts whose next token is ahead of the second likeliest by
            less than this, in nats, along its path, take full depth; None: no cascade.
        notes: figures of its training, only shown.

    Raises:
        ValueError: a size is out of bounds, a scale, bias or gap is not finite, a head or action is unknown, or a
            cascade has a head.
    """

    VERSION = ("format_version", 1)
    DAMAGED = "{where} is not a router's config.json ({error})"

    base_model: str
    base_fingerprint: str
    num_layers: int
    hidden_size: int
    tasks: tuple[str, ...]
    method: str
    chat: bool | str = False
    labels: str | None = None
    actions: tuple[str, ...] = ("skip", "execute", "repeat")
    pooling: Pooling = field(default_factory=Pooling)
    head: HeadKind = "bottleneck"
    width: int = 128
    scale: float = 1.0
    bias: float = 0.0
    bridges: str | None = None
    fall_back_below: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("num_layers", "hidden_size", "width"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SIZE:
                raise ValueError(f"{name} must be a whole number from 1 to {MAX_SIZE}; got {value!r}")
        for name in ("scale", "bias"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number; got {value!r}")
        gap = self.fall_back_below
        if gap is not None and (not isinstance(gap, (int, float)) or not 0 <= gap < math.inf or self.reads_states):
            raise ValueError(f"fall_back_below must be a number of nats from 0, of a router without heads; got {gap!r}")
        if self.head not in get_args(HeadKind):
            raise ValueError(f"head must be one of {', '.join(get_args(HeadKind))}; got {self.head!r}")
        if not all(isinstance(name, str) for name in (*self.tasks, self.labels or "")):
            raise ValueError(f"tasks and labels are names; got {self.tasks!r} and {self.labels!r}")
        if isinstance(self.chat, str):
            try:
                date.fromisoformat(self.chat)
            except ValueError:
                raise ValueError(f"chat is true, false or a day (2026-01-31); got {self.chat!r}") from None
        allowed_actions(self.actions)

    @property
    def reads_states(self) -> bool:
        """Whether heads read the prompt's states."""
        return self.head != "none" and self.scale != 0

    @property
    def static_only(self) -> bool:
        """Whether every question takes the same path."""
        return not self.reads_states and self.fall_back_below is None


def allowed_actions(names: tuple[str, ...]) -> tuple[LayerAction, ...]:
    """The actions with these names, sorted.

    Raises:
        ValueError: a name is unknown, or `execute` is missing.
    """
    known = {action.name.lower(): action for action in LayerAction}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown action {unknown[0]!r}; actions are {', '.join(known)}")
    if "execute" not in names:
        raise ValueError("the actions must hold execute")
    return tuple(sorted(known[name] for name in names))
