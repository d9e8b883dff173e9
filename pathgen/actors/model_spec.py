"""The model of an actor: how to load it, and which errors make its process unusable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..bridges.folder import read_bridges
from ..models.resolving import resolve_recorded
from ..store.run_folder import RunDirectory

if TYPE_CHECKING:
    from ..engine.path_model import PathModel


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model an actor loads, and on which devices. The driver makes it without torch.

    Attributes:
        name: alias, folder or hub id.
        fingerprint: of the weights that the driver found.
        devices_per_actor: above 1, the model is spread over this many devices.
        threads: torch threads of the process.
        bridged: the bridges in the run's folder run where paths skip.
    """

    name: str
    fingerprint: str
    dtype: str
    device: str
    devices_per_actor: int = 1
    threads: int = 1
    bridged: bool = False

    def load(self, out: str) -> PathModel:
        """Load the model in an actor's process, for the run in `out`.

        Raises:
            ArtefactError: the weights differ from the driver's, or the run's bridges are damaged. Other errors as
                `PathModel.from_pretrained`.
        """
        import torch

        from ..engine.path_model import PathModel

        folder = resolve_recorded(self.name, self.fingerprint, out)
        torch.set_num_threads(self.threads)
        device_map = "auto" if self.devices_per_actor > 1 else None
        model = PathModel.from_pretrained(str(folder), dtype=self.dtype, device=self.device, device_map=device_map)
        if self.bridged:
            model.use_bridges(read_bridges(RunDirectory(out).read_file, out, self.fingerprint))
        return model


def is_sticky(error: BaseException) -> bool:
    """Whether an error of CUDA makes this process unusable: a context that has failed once fails always."""
    import torch

    return isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)
