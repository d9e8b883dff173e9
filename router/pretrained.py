"""A router's folder: written whole or not at all, read strictly, and sent to the hub."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from pathgen.errors import ArtefactError, InputError, PathgenError
from pathgen.storage import TEMPORARY_PREFIX

from .card import card_text
from .checkpoint import TRAINING_FOLDER
from .config import RouterConfig
from .modules import Router

WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = "model.safetensors", "config.json", "README.md"
ROUTER_FILES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME)
QUESTIONS_NAME = "training_questions.json"
"""In a router's folder: the shas of the questions it was trained on and chosen on, so that others can warn."""


def parameter_share(router: Router, base_parameters: int) -> float:
    """The router's weights relative to the base model's."""
    return router.num_parameters / base_parameters


def save_router(router: Router, folder: str | Path, *, beside: Mapping[str, bytes] | None = None) -> None:
    """Make `folder` hold this router: weights, config.json and a model card.

    All is written and flushed in a hidden folder beside it, which then takes its place, so that a full disk leaves
    an older router whole. Whatever else lay in the folder stays, but for the state of a training: it has ended.

    Args:
        router: on any device.
        folder: made if need be.
        beside: name -> content of files that come and go with the router.

    Raises:
        PathgenError: the file system refuses (disk full, no permission).
    """
    folder = Path(folder).resolve()
    finish_swap(folder)
    staged = _beside(folder)
    try:
        shutil.rmtree(staged, ignore_errors=True)
        try:
            _write_files(router, staged, beside or {})
            _swap(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise PathgenError(f"cannot write the router {folder}: {error.strerror or error}") from error


def finish_swap(folder: Path) -> None:
    """Put back what a process that was killed while a new router took its place has left beside the folder.

    Raises:
        PathgenError: the file system refuses.
    """
    replaced = _beside(folder, "-replaced")
    if not replaced.exists():
        return
    try:
        if not folder.exists():
            os.replace(replaced, folder)
            return
        ended = (folder / CONFIG_NAME).exists()  # the new router is there, and its training over
        for entry in replaced.iterdir():
            if not (folder / entry.name).exists() and not (ended and entry.name == TRAINING_FOLDER):
                os.replace(entry, folder / entry.name)
        _flush(folder)
        shutil.rmtree(replaced)
    except OSError as error:
        raise PathgenError(f"cannot restore {folder} from {replaced}: {error.strerror or error}") from error


def seen_by(folder: Path) -> frozenset[str]:
    """Shas of the questions that a router was trained or chosen on; none where its folder does not tell.

    It does not as a router from the hub; of an older training it tells those trained on alone.

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


def load_router(folder: str | Path, *, fingerprint: str | None = None, num_layers: int | None = None) -> Router:
    """Read a router, in eval mode on the CPU.

    Args:
        folder: as `save_router` writes it.
        fingerprint: of the base model it must be for; any if None.
        num_layers: of the base model it must be for; any if None.

    Raises:
        InputError: there is no such folder.
        ArtefactError: a router of another model, or files that are missing, damaged or do not fit each other.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no router folder {folder}; `router train --out {folder}` makes one")
    config = _read_config(folder)
    for name, wanted in (("num_layers", num_layers), ("base_fingerprint", fingerprint)):
        if wanted is not None and getattr(config, name) != wanted:
            raise ArtefactError(
                f"{folder} is a router for {config.base_model} with {name} {getattr(config, name)}; "
                f"the model at hand has {wanted}"
            )
    router = Router(config)
    weights = _read_weights(folder)
    _check_weights(weights, router, folder / WEIGHTS_NAME)
    router.load_state_dict(weights)
    return router.eval()


def resolve_router(name: str) -> Path:
    """The local folder of a router: a folder as it is, a hub id (owner/name) downloaded.

    Raises:
        InputError: neither is there.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(f"there is no router folder {name}; `router train --out {name}` makes one")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(ROUTER_FILES)))
    except Exception as error:  # the hub's client raises a dozen kinds; the person needs one line
        raise InputError(
            f"router {name!r} is no local folder, and the hub does not give it ({type(error).__name__})"
        ) from error


def upload_router(router: Router, repo_id: str, *, private: bool = False) -> str:
    """Upload to a repository of the hub, which is made if need be, as one commit; its address.

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
        except Exception as error:  # as above
            raise PathgenError(f"the hub does not take router {repo_id}: {error}") from error
    return str(address)


def _write_files(router: Router, folder: Path, beside: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()}
    contents = {
        WEIGHTS_NAME: tensor_bytes(weights, {"format": "pt"}),
        CONFIG_NAME: router.config.to_json().encode(),
        CARD_NAME: card_text(router).encode(),
        **beside,
    }
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush(folder)


def _beside(folder: Path, end: str = "") -> Path:
    return folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}{end}")


def _swap(staged: Path, folder: Path) -> None:
    """Put `staged` in the place of `folder`; what else lay in that moves over."""
    replaced = _beside(folder, "-replaced")
    if not folder.exists():
        os.replace(staged, folder)
        _flush(folder.parent)
        return
    os.replace(folder, replaced)
    try:
        os.replace(staged, folder)
    except BaseException:
        os.replace(replaced, folder)
        raise
    finish_swap(folder)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_config(folder: Path) -> RouterConfig:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ArtefactError(f"{folder} is no router: it has no {CONFIG_NAME}")
    try:
        return RouterConfig.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror})") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        others = sorted(file.name for file in folder.glob("*.bin"))
        reason = f"; {others[0]} is not read: only safetensors are" if others else ""
        raise ArtefactError(f"{folder} is no router: it has no {WEIGHTS_NAME}{reason}")
    try:
        return read_tensors(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); train again or copy it again") from error


def _check_weights(weights: dict[str, Tensor], router: Router, path: Path) -> None:
    expected = router.state_dict()
    if missing := sorted(set(expected) - set(weights)):
        raise ArtefactError(
            f"{path} does not fit its {CONFIG_NAME}: {len(missing)} tensors missing, first {missing[0]}"
        )
    if extra := sorted(set(weights) - set(expected)):
        raise ArtefactError(f"{path} does not fit its {CONFIG_NAME}: {len(extra)} tensors too many, first {extra[0]}")
    for name, value in expected.items():
        found = weights[name]
        if found.shape != value.shape or found.dtype != value.dtype:
            raise ArtefactError(
                f"{path} does not fit its {CONFIG_NAME}: {name} is {_described(found)}, not {_described(value)}"
            )
        if not torch.isfinite(found).all():
            raise ArtefactError(f"{path}: {name} holds NaN or Inf")


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
