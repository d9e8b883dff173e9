"""Reads a router strictly, from a folder or the hub, and uploads one to the hub."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from torch import Tensor

from pathgen.bridges.folder import FILES as BRIDGE_FILES
from pathgen.bridges.folder import load_bridges
from pathgen.errors import ArtefactError, InputError, PathgenError, one_line
from pathgen.identity import difference_told, differences, shown

from ..net.config import RouterConfig
from ..net.router import Router
from .folder import save_router
from .layout import CARD_NAME, CONFIG_NAME, QUESTIONS_NAME, WEIGHTS_NAME


def seen_by(folder: Path) -> frozenset[str]:
    """Shas of the questions that a router was trained or chosen on; empty if its folder has no list, as from the hub.

    The list of an older training holds only the questions trained on.

    Raises:
        ArtefactError: the list is damaged.
    """
    file = folder / QUESTIONS_NAME
    try:
        stored = json.loads(file.read_bytes())
        return frozenset(stored if isinstance(stored, list) else stored["trained_on"] + stored["chosen_on"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{file} is damaged ({error}); train the router again") from error


def router_digest(folder: Path) -> str:
    """Hash of a router's settings and weights, 16 hex digits."""
    content = b"".join((folder / file).read_bytes() for file in (CONFIG_NAME, WEIGHTS_NAME))
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def load_router(name: str | Path, *, fingerprint: str | None = None, num_layers: int | None = None) -> Router:
    """Read a router from a folder or the hub, in eval mode on the CPU.

    The fingerprint and number of layers of its base model are checked unless None.

    Raises:
        InputError: there is no such folder or hub id.
        ArtefactError: the router is of another model, or files are missing, damaged or do not fit each other.
    """
    folder = resolve_router(str(name))
    config = _read_config(folder)
    unfit = f"{folder} is a router for {config.base_model} with"
    if num_layers is not None and config.num_layers != num_layers:
        raise ArtefactError(f"{unfit} number of layers {config.num_layers}; the model at hand has {num_layers}")
    its = config.base_fingerprint
    if fingerprint is not None and differences(its, fingerprint):
        raise ArtefactError(
            f"{unfit} fingerprint {shown(its)}; the model at hand has {shown(fingerprint)}: "
            + difference_told(its, fingerprint, "the one this router was made with")
        )
    weights = _read_weights(folder)
    _check_weights(weights, config, folder / WEIGHTS_NAME)
    router = Router(config)  # only after the checks, when its size is known to be the file's
    router.load_state_dict(weights)
    if config.bridges is not None:
        router.bridges = load_bridges(folder, config.base_fingerprint)
        if router.bridges.digest != config.bridges:
            raise ArtefactError(f"{folder} holds bridges {router.bridges.digest}, its router needs {config.bridges}")
    return router.eval()


def resolve_router(name: str) -> Path:
    """The local folder of a router; a hub id (owner/name) is downloaded.

    Raises:
        InputError: there is no such folder or hub id.
    """
    if os.path.isdir(name):  # unlike Path.is_dir, False for a name too long for any folder
        return Path(name)
    shown = one_line(name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"there is no router folder {shown}; `router train --out {shown}` makes one")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS_NAME, CONFIG_NAME, CARD_NAME, *BRIDGE_FILES]))
    except Exception as error:  # the hub's client raises many kinds of errors; the user needs one line
        raise InputError(
            f"router {shown!r} is not a local folder, and the hub does not provide it ({type(error).__name__})"
        ) from error


def upload_router(router: Router, repo_id: str, *, private: bool = False) -> str:
    """Upload to a repository of the hub as one commit; create the repository if missing; return its address.

    Raises:
        PathgenError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save_router(router, folder)
        try:
            api = HfApi()
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Router by layerpaths")
        except Exception as error:  # as in `resolve_router`
            raise PathgenError(f"the hub refuses router {repo_id}: {error}") from error
    return str(address)


def _read_config(folder: Path) -> RouterConfig:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ArtefactError(f"{folder} is not a router: it has no {CONFIG_NAME}")
    try:
        return RouterConfig.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror})") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        others = sorted(file.name for file in folder.glob("*.bin"))
        reason = f"; {others[0]} is not read: only safetensors are" if others else ""
        raise ArtefactError(f"{folder} is not a router: it has no {WEIGHTS_NAME}{reason}")
    try:
        return read_tensors(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); train again or copy it again") from error


def _check_weights(weights: dict[str, Tensor], config: RouterConfig, path: Path) -> None:
    expected, unfit = _tensors(config), f"{path} does not fit its {CONFIG_NAME}"
    if missing := expected.keys() - weights.keys():
        raise ArtefactError(f"{unfit}: {len(missing)} tensors missing, first {min(missing)}")
    if extra := weights.keys() - expected.keys():
        raise ArtefactError(f"{unfit}: {len(extra)} tensors too many, first {min(extra)}")
    for name, value in expected.items():
        found = weights[name]
        if found.shape != value.shape or found.dtype != value.dtype:
            raise ArtefactError(f"{unfit}: {name} is {_described(found)}, not {_described(value)}")
        if not torch.isfinite(found).all():
            raise ArtefactError(f"{path}: {name} holds NaN or Inf")


def _tensors(config: RouterConfig) -> dict[str, Tensor]:
    """The expected tensors as shapes only, without memory; built from one head, because all heads are alike."""
    with torch.device("meta"):
        one = Router(replace(config, num_layers=1)).state_dict()
    found = {"static_logits": one.pop("static_logits").expand(config.num_layers, -1)}
    for layer in range(config.num_layers):
        found |= {name.replace("heads.0.", f"heads.{layer}."): value for name, value in one.items()}
    return found


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
