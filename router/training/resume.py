"""Resuming an interrupted training: its whole state after each epoch, in one safetensors file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cluster.program.json_codec import from_json, to_json
from pathgen.faults import fault_point
from pathgen.store.files import put, remove_leftovers

from ..saved.layout import TRAINING_FOLDER

logger = logging.getLogger(__name__)

STATE_FILE = "state.safetensors"
GROUPS = ("weights", "best", "exp_avg", "exp_avg_sq")

Tensors = dict[str, Tensor]  # by parameter name


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Figures of one epoch.

    Attributes:
        epoch: counted from 1.
        loss: mean over the visits of training questions, each at its own step.
        dev_loss: mean over development questions after the epoch.
        macro_f1: of actions on development questions.
    """

    epoch: int
    loss: float
    dev_loss: float
    macro_f1: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """The state from which the next epoch starts: the heads' weights, now and after the best epoch; AdamW's moments.

    The order of an epoch is a function of the seed and its number. The learning rate is a function of `step`.
    """

    history: tuple[EpochReport, ...]
    step: int
    weights: Tensors
    best: Tensors
    exp_avg: Tensors
    exp_avg_sq: Tensors


@dataclass(frozen=True, slots=True)
class _About:
    """Metadata of the state file."""

    digest: str
    step: int
    history: tuple[EpochReport, ...]


class TrainingCheckpoint:
    """The state file of one training, in `.training` of the router's folder.

    The digest is over all inputs of the training. A state of another digest is not used.
    """

    def __init__(self, folder: str | Path, digest: str):
        self._file = Path(folder) / TRAINING_FOLDER / STATE_FILE
        self._digest = digest

    def save(self, state: TrainingState) -> None:
        """Replace the file atomically.

        Raises:
            PathgenError: it cannot be written (disk full, no permission).
        """
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group in GROUPS
            for name, tensor in getattr(state, group).items()
        }
        about = {"training": to_json(_About(self._digest, state.step, state.history)).decode()}
        put(LocalFileSystem(), str(self._file), safetensors.torch.save(tensors, about), passing=fault_point)

    def load(self) -> TrainingState | None:
        """The stored state; None if there is no file, or, with a warning, if the state cannot be used."""
        if not self._file.exists():
            return None
        remove_leftovers(LocalFileSystem(), str(self._file.parent))
        try:
            with safe_open(self._file, framework="pt") as file:
                about = from_json(_About, file.metadata()["training"])
                found: dict[str, Tensors] = {group: {} for group in GROUPS}
                for key in file.keys():  # noqa: SIM118 - no mapping
                    group, _, name = key.partition("/")
                    found[group][name] = file.get_tensor(key).clone()
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s): training starts over", self._file, error)
            return None
        if about.digest != self._digest:
            logger.warning("%s is of other settings or data: training starts over", self._file)
            return None
        return TrainingState(about.history, about.step, **found)
