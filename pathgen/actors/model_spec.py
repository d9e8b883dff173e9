"""The model of an actor: what it needs to load it, and which errors leave its process useless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.resolving import resolve_recorded

if TYPE_CHECKING:
    from ..engine.path_model import PathModel


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model an actor loads, and on what. The driver makes it without torch.

    Attributes:
        name: alias, folder or hub id.
        fingerprint: of the weights that the driver has seen.
        dtype: of the weights.
        device: torch device.
        devices_per_actor: above 1, the model is spread over so many devices.
        threads: torch threads of the process.
    """

    name: str
    fingerprint: str
    dtype: str
    device: str
    devices_per_actor: int = 1
    threads: int = 1

    def load(self, out: str) -> PathModel:
        """Load the model in an actor's process.

        Args:
            out: the run that it is for, for the message.

        Raises:
            ArtefactError: other weights than the driver's lie here; otherwise as `PathModel.from_pretrained`.
        """
        import torch

        from ..engine.path_model import PathModel

        folder = resolve_recorded(self.name, self.fingerprint, out)
        torch.set_num_threads(self.threads)
        device_map = "auto" if self.devices_per_actor > 1 else None
        return PathModel.from_pretrained(str(folder), dtype=self.dtype, device=self.device, device_map=device_map)


def is_sticky(error: BaseException) -> bool:
    """Whether a CUDA error leaves this process useless: a context that has failed fails for ever."""
    import torch

    accelerator_error = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator_error) or "CUDA error" in str(error)
