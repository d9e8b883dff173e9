"""The calibrated prior: which moves to try first, from a scan of all single moves on a few questions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..artefacts import JsonArtefact
from ..errors import ArtefactError, InputError
from ..paths.cost import CostModel
from ..paths.layer_path import LayerAction, LayerPath, Move, all_moves
from ..paths.records import Evaluation, StopReason
from ..paths.reward import path_reward
from .settings import SearchSettings

TEMPERATURE = 0.15
"""A mean reward larger by this much multiplies the weight by e; chosen by measurement (docs/LOG.md)."""
MAX_GAIN = 100.0
"""Largest gain accepted from a file: far above any real gain, and exp(MAX_GAIN / TEMPERATURE) is finite."""
SCAN_CHUNK = 24
"""Paths that a scan asks at a time."""


@dataclass(frozen=True, slots=True)
class MoveStatistics:
    """Effect of one move from the full path, over the calibration questions."""

    move: Move
    keeps: float | None
    """Share of the full path's correct answers that stay correct; None if none was correct."""
    mends: float | None
    """Share of its wrong answers that become correct; None if none was wrong."""
    margin_shift: float
    """Mean change of the margin, in nats."""
    gain_if_right: float = field(metadata={"most": MAX_GAIN})
    """Mean change of the search's reward (length term included) on questions that the full path answers correctly."""
    gain_if_wrong: float = field(metadata={"most": MAX_GAIN})
    """The same on its wrong answers. If one group is empty, both are the mean over all questions."""
    layers_run: int
    """Layer executions of the move when all states before it are shared."""


@dataclass(frozen=True, slots=True)
class Prior(JsonArtefact):
    """Statistics of every move over a number of questions, frozen before the first search."""

    DAMAGED = "{where} is not a prior.json ({error})"

    model_fingerprint: str
    task: str
    questions: int
    statistics: tuple[MoveStatistics, ...]

    def weights(self, base_correct: bool) -> dict[Move, float]:
        """P of each move, up to a factor: exp(reward gain / TEMPERATURE).

        The gains depend on whether the full path is correct: moves that change much mend wrong answers, but also
        break correct ones.
        """
        gains = {entry.move: entry.gain_if_right if base_correct else entry.gain_if_wrong for entry in self.statistics}
        return {move: math.exp(gain / TEMPERATURE) for move, gain in gains.items()}

    @property
    def digest(self) -> str:
        """16 hex digits of the whole content, for the run's settings."""
        return hashlib.blake2b(self.to_json(), digest_size=8).hexdigest()

    def check_matches(self, fingerprint: str, task: str, num_layers: int, where: str) -> None:
        """Raise ArtefactError unless the prior was measured on this model and task."""
        if (self.model_fingerprint, self.task) != (fingerprint, task):
            raise ArtefactError(
                f"{where} was measured on model {self.model_fingerprint} and task {self.task}, "
                f"this run is of {fingerprint} and {task}; calibrate again with --calibrate N"
            )
        if {entry.move for entry in self.statistics} != set(all_moves(num_layers)):
            raise ArtefactError(f"{where} does not list the moves of a model with {num_layers} layers")


def load_prior(path: str) -> Prior:
    """The prior in a file; InputError if the file cannot be read, ArtefactError if its content is invalid."""
    try:
        return Prior.from_json(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"--prior {path} cannot be read ({error.strerror})") from error


class MoveScan:
    """Asks for the full path and every single move of one question; calibration runs it in place of a search."""

    def __init__(self, num_layers: int, settings: SearchSettings, cost: CostModel) -> None:
        full = LayerPath.full(num_layers)
        cap = settings.cost_cap(cost, num_layers)
        after = [move.apply(full) for move in all_moves(num_layers) if move.width <= settings.max_edits]
        self._waiting = [full] + [path for path in after if path.depth and cost.cost(path) <= cap]
        self._asked: list[LayerPath] = []
        self.evaluations: list[Evaluation] = []
        self.simulations = 0  # a scan walks no tree
        self.stop_reason: StopReason | None = None

    def ask(self) -> list[LayerPath]:
        """The next paths; empty while results are missing, and at the end."""
        if self._asked or self.stop_reason:
            return []
        self._asked, self._waiting = self._waiting[:SCAN_CHUNK], self._waiting[SCAN_CHUNK:]
        return list(self._asked)

    def tell(self, path: LayerPath, evaluation: Evaluation) -> bool:
        """Take a result."""
        if path not in self._asked:
            return False
        self.evaluations.append(evaluation)
        self._asked.remove(path)
        if not self._asked and not self._waiting:
            self.stop_reason = "budget"
        return True

    def finish(self, reason: StopReason) -> None:
        """Stop early."""
        self.stop_reason = self.stop_reason or reason


def measure_moves(
    scans: Sequence[Mapping[LayerPath, Evaluation]],
    num_layers: int,
    settings: SearchSettings,
    cost: CostModel,
    relative_margin: bool,
) -> tuple[MoveStatistics, ...]:
    """Statistics of every move over scans of single moves; a scan whose full path has no margin is left out.

    A move that breaks a cap, so that no scan ran it, gets the gain −1, the worst possible.
    """
    full = LayerPath.full(num_layers)

    def gain(before: Evaluation, after: Evaluation) -> float:
        base = (before.margin or 0.0) if relative_margin else 0.0
        at_first, then = (path_reward(one, base, cost, settings.length_weight) for one in (before, after))
        return then - at_first

    usable = [scan for scan in scans if full in scan and scan[full].margin is not None]
    entries = []
    for move in all_moves(num_layers):
        path = move.apply(full)
        pairs = [(scan[full], scan[path]) for scan in usable if path in scan]
        kept = [after.correct for before, after in pairs if before.correct]
        mended = [after.correct for before, after in pairs if not before.correct]
        shifts = [(after.margin or 0.0) - (before.margin or 0.0) for before, after in pairs if after.margin is not None]
        if_right = [gain(before, after) for before, after in pairs if before.correct]
        if_wrong = [gain(before, after) for before, after in pairs if not before.correct]
        entries.append(
            MoveStatistics(
                move,
                keeps=float(np.mean(kept)) if kept else None,
                mends=float(np.mean(mended)) if mended else None,
                margin_shift=float(np.mean(shifts)) if shifts else 0.0,
                gain_if_right=float(np.mean(if_right or if_wrong)) if pairs else -1.0,
                gain_if_wrong=float(np.mean(if_wrong or if_right)) if pairs else -1.0,
                layers_run=sum(path[move.layer :]) - (move.action == LayerAction.REPEAT),
            )
        )
    return tuple(entries)
