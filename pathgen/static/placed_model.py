"""The frozen model of `pathgen static`, with its bridges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..bridges.folder import folder_info, load_bridges, read_info
from ..bridges.info import BridgesInfo
from ..models.devices import default_device
from ..models.resolving import resolve_model, resolve_recorded
from ..store.run_folder import RunDirectory
from ..store.run_reader import SearchedRun
from .options import StaticOptions

if TYPE_CHECKING:
    from ..engine.path_model import PathModel


def resolved(options: StaticOptions, run: SearchedRun | None) -> tuple[str, Path]:
    """Name and folder of the model of --text, or of the runs.

    Raises:
        InputError: there is no such model.
        ArtefactError: the run's model now has other weights.
    """
    if run is not None:
        name = options.model or run.info.model_id
        return name, resolve_recorded(name, run.info.fingerprint, run.out)
    assert options.model is not None  # the options check it
    return options.model, resolve_model(options.model)


def bridges_info(options: StaticOptions, fingerprint: str, run: SearchedRun | None) -> BridgesInfo | None:
    """What the bridges of --bridges are, else the run's own; None without. Errors as `read_info`."""
    if options.bridges is not None:
        return folder_info(options.bridges, fingerprint)
    if run is None or run.info.bridges is None:
        return None
    return read_info(RunDirectory(run.out).read_file, run.out, fingerprint)


def load_placed(name: str, fingerprint: str, options: StaticOptions, dtype: str, run: SearchedRun | None) -> PathModel:
    """The model on its device, with the bridges that `bridges_info` tells of; errors as `load_bridges`."""
    import torch

    from ..engine.path_model import PathModel

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = PathModel.from_pretrained(name, dtype=dtype, device=options.device or default_device())
    if options.bridges is not None:
        model.use_bridges(load_bridges(options.bridges, fingerprint))
    elif run is not None:
        model.use_bridges(RunDirectory(run.out).bridges(run.info))
    return model
