"""A folder of bridges: `bridges.safetensors` and `bridges.json`, read strictly."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.program.folders import built_whole

from ..artefacts import JsonArtefact
from ..errors import ArtefactError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from .maps import Bridges

WEIGHTS_NAME, INFO_NAME = "bridges.safetensors", "bridges.json"


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


def digest_of(weights: bytes) -> str:
    """Names the maps: a hash of their file."""
    return hashlib.blake2b(weights, digest_size=8).hexdigest()


def weights_of(bridges: Bridges) -> bytes:
    """The content of the weights' file."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for layer, bridge in enumerate(bridges.maps):
        parts = {"down": bridge.down, "up": bridge.up, "bias": bridge.bias}
        tensors |= {f"{layer}.{name}": part.cpu().contiguous() for name, part in parts.items() if part is not None}
    return save(tensors, {"format": "pt"})


def read_info(folder: str | Path, fingerprint: str | None = None) -> BridgesInfo:
    """What the bridges of a local folder are, without their weights.

    Raises:
        InputError: there is no such folder, or it holds no bridges.
        ArtefactError: they are of another model than `fingerprint`, or damaged.
    """
    file = Path(folder) / INFO_NAME
    try:
        info = BridgesInfo.from_json(file.read_bytes(), str(file))
    except OSError as error:
        remedy = f"`pathgen bridge --out {folder}` makes them"
        raise InputError(f"{folder} holds no bridges ({INFO_NAME}: {error.strerror}); {remedy}") from error
    if fingerprint is not None and info.fingerprint != fingerprint:
        raise ArtefactError(
            f"{folder} holds bridges of {info.model_id} ({info.fingerprint}); the model at hand is {fingerprint}: "
            "fit its own with `pathgen bridge`"
        )
    return info


def load_bridges(folder: str | Path, fingerprint: str | None = None) -> Bridges:
    """The bridges of a local folder, in float32 on the CPU.

    Raises:
        InputError: there is no such folder, or it holds no bridges.
        ArtefactError: they are of another model than `fingerprint`, or the files are damaged or do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    info, file = read_info(folder, fingerprint), Path(folder) / WEIGHTS_NAME
    try:
        content = file.read_bytes()
        if digest_of(content) != info.digest:
            raise ArtefactError(f"{file} is not the file that {INFO_NAME} names; copy or fit the bridges again")
        return _assembled(load(content), info)
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtefactError(f"{file} is damaged or missing ({error}); copy or fit the bridges again") from error


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
        )
    )


def copy_bridges(source: str | Path, folder: Path) -> None:
    """Copy the files of a folder of bridges into another one, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS_NAME, INFO_NAME):
        content = (Path(source) / name).read_bytes()
        (folder / name).write_bytes(content)
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


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
