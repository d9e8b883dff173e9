"""A model in an actor's process: how it is placed and loaded, and which errors leave the process useless."""

from __future__ import annotations

from typing import Protocol

import torch

from ..engine.path_model import PathModel
from ..models.resolving import resolve_recorded


class PlacedModel(Protocol):
    """Settings that say which model an actor loads, and on what."""

    @property
    def out(self) -> str:
        """The run that it is for."""

    @property
    def fingerprint(self) -> str:
        """Of the weights that the driver has seen."""

    @property
    def model(self) -> str:
        """Alias, folder or hub id."""

    @property
    def dtype(self) -> str:
        """Of the weights."""

    @property
    def device(self) -> str:
        """Torch device."""

    @property
    def devices_per_actor(self) -> int:
        """Above 1, the model is spread over so many devices."""

    @property
    def threads(self) -> int:
        """Torch threads of the process."""


def load_placed(settings: PlacedModel) -> PathModel:
    """The model of an actor, in an actor's process.

    Raises:
        ArtefactError: other weights than the driver's lie here; beside that as `PathModel.from_pretrained`.
    """
    folder = resolve_recorded(settings.model, settings.fingerprint, settings.out)
    torch.set_num_threads(settings.threads)
    device_map = "auto" if settings.devices_per_actor > 1 else None
    return PathModel.from_pretrained(str(folder), dtype=settings.dtype, device=settings.device, device_map=device_map)


def is_sticky(error: BaseException) -> bool:
    """Whether a CUDA error leaves this process useless: a context that has failed fails for ever."""
    accelerator_error = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator_error) or "CUDA error" in str(error)
