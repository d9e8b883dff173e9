"""A folder of bridges: `bridges.safetensors` and `bridges.json`, read strictly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.program.folders import built_whole

from ..errors import ArtefactError, InputError
from ..identity import difference_told, differences, shown
from .info import BridgesInfo

if TYPE_CHECKING:
    from torch import Tensor

    from .maps import Bridges

WEIGHTS_NAME, INFO_NAME = "bridges.safetensors", "bridges.json"
FILES = (WEIGHTS_NAME, INFO_NAME)
"""They also lie in the folders of runs and routers that use bridges."""

Reader = Callable[[str], bytes | None]
"""The content of a file of a folder by its name; None if there is none."""


def digest_of(weights: bytes) -> str:
    """Names the maps: a hash of their file."""
    return hashlib.blake2b(weights, digest_size=8).hexdigest()


def files_of(bridges: Bridges) -> dict[str, bytes]:
    """Content by name of the files that hold these bridges, which were read from a folder."""
    assert bridges.info is not None
    return {WEIGHTS_NAME: weights_of(bridges), INFO_NAME: bridges.info.to_json()}


def weights_of(bridges: Bridges) -> bytes:
    """The content of the weights' file; always the same for the same maps."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for layer, bridge in enumerate(bridges.maps):
        parts = {"down": bridge.down, "up": bridge.up, "bias": bridge.bias}
        tensors |= {f"{layer}.{name}": part.cpu().contiguous() for name, part in parts.items() if part is not None}
    return save(tensors, {"format": "pt"})


def local_reader(folder: str | Path) -> Reader:
    """Reads files of a local folder."""

    def read(name: str) -> bytes | None:
        try:
            return (Path(folder) / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    return read


def read_info(read: Reader, where: str, fingerprint: str | None = None) -> BridgesInfo:
    """What the bridges of a folder are, without their weights.

    Args:
        read: reads a file of the folder.
        where: the folder's name, for messages.
        fingerprint: of the model at hand; None: any.

    Raises:
        InputError: the folder holds no bridges.
        ArtefactError: they are of another model, or damaged.
    """
    if (content := read(INFO_NAME)) is None:
        raise InputError(f"{where} holds no bridges (no {INFO_NAME}); `pathgen bridge --out {where}` makes them")
    info = BridgesInfo.from_json(content, f"{where}/{INFO_NAME}")
    if fingerprint is not None and differences(info.fingerprint, fingerprint):
        raise ArtefactError(
            f"{where} holds bridges of {info.model_id} ({shown(info.fingerprint)}); the model at hand is "
            f"{shown(fingerprint)}, {difference_told(info.fingerprint, fingerprint, 'theirs')}: fit its own with "
            "`pathgen bridge`"
        )
    return info


def folder_info(folder: str | Path, fingerprint: str | None = None) -> BridgesInfo:
    """What the bridges of a local folder are; arguments and errors as `read_info`."""
    return read_info(local_reader(folder), str(folder), fingerprint)


def read_bridges(read: Reader, where: str, fingerprint: str | None = None) -> Bridges:
    """The bridges of a folder, in float32 on the CPU; arguments as `read_info`.

    Raises:
        InputError: the folder holds no bridges.
        ArtefactError: they are of another model, or the files are damaged or do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    info, file = read_info(read, where, fingerprint), f"{where}/{WEIGHTS_NAME}"
    content = read(WEIGHTS_NAME)
    if content is None or digest_of(content) != info.digest:
        raise ArtefactError(f"{file} is not the file that {INFO_NAME} names; copy or fit the bridges again")
    try:
        return _assembled(load(content), info)
    except (SafetensorError, ValueError) as error:
        raise ArtefactError(f"{file} is damaged ({error}); copy or fit the bridges again") from error


def load_bridges(folder: str | Path, fingerprint: str | None = None) -> Bridges:
    """The bridges of a local folder; arguments and errors as `read_bridges`."""
    return read_bridges(local_reader(folder), str(folder), fingerprint)


def _assembled(tensors: dict[str, Tensor], info: BridgesInfo) -> Bridges:
    import torch

    from .maps import Bridge, Bridges

    width, rank = info.width, info.rank
    shapes = {"down": (rank or width, width), "bias": (width,)} | ({"up": (width, rank)} if rank else {})
    wanted = {f"{layer}.{name}": shape for layer in range(info.num_layers) for name, shape in shapes.items()}
    if tensors.keys() != wanted.keys():
        raise ValueError(f"{len(tensors)} tensors, not the {len(wanted)} of {info.num_layers} layers")
    for name, shape in wanted.items():
        found = tensors[name]
        if tuple(found.shape) != shape or found.dtype != torch.float32 or not bool(found.isfinite().all()):
            raise ValueError(f"{name} is no finite float32 tensor of shape {shape}")
    return Bridges(
        tuple(
            Bridge(tensors[f"{layer}.down"], tensors.get(f"{layer}.up"), tensors[f"{layer}.bias"])
            for layer in range(info.num_layers)
        ),
        info,
    )


def save_bridges(bridges: Bridges, info: BridgesInfo, folder: Path) -> None:
    """Write a new folder of bridges, whole or not at all; `info.digest` is set here.

    Raises:
        InputError: the folder exists.
        OSError: the file system refuses.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; give a new folder")
    weights = weights_of(bridges)
    building = folder.with_name(f".{folder.name}.partial")
    with built_whole(folder, building):
        (building / WEIGHTS_NAME).write_bytes(weights)
        (building / INFO_NAME).write_bytes(replace(info, digest=digest_of(weights)).to_json())
