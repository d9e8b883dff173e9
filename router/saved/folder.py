"""Writes a router's folder: checks the place, and writes all files or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save as tensor_bytes

from pathgen.bridges.folder import files_of
from pathgen.errors import ArtefactError, InputError, PathgenError
from pathgen.store.files import TEMPORARY_PREFIX, flush_folder, is_local, open_folder

from ..net.config import RouterConfig
from ..net.router import Router
from .layout import CARD_NAME, CONFIG_NAME, LOGS_FOLDER, STATIC_NAME, TRAINING_FOLDER, WEIGHTS_NAME
from .model_card import card_text

LEFT_BY_TRAINING = {TRAINING_FOLDER, LOGS_FOLDER, STATIC_NAME}
"""Entries of a folder in which a training was interrupted."""


def prepare_folder(out: str) -> Path:
    """The folder to write a router to, with links resolved; an interrupted swap there is finished.

    Raises:
        InputError: it is a URL, a mount point (which cannot be replaced by another folder), a file, or a folder that
            holds anything but a router or an interrupted training.
        PathgenError: the file system refuses.
    """
    fs, root = open_folder(out)
    if not is_local(fs):
        raise InputError(f"--out {out}: a router is written to a local folder; copy it to a store afterwards")
    folder = Path(root).resolve()
    if os.path.ismount(folder):
        raise InputError(f"--out {out} is a mount point; give a folder below it")
    finish_swap(folder)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"--out {folder}: {place} is a file; give a folder")
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    others = sorted(name for name in names - LEFT_BY_TRAINING if not name.startswith(TEMPORARY_PREFIX))
    if others and not _holds_router(folder):
        raise InputError(f"--out {folder} holds {others[0]} and no router; give a new folder")
    return folder


def _holds_router(folder: Path) -> bool:
    """Whether config.json is a router's: a model's folder has a file of this name too."""
    try:
        RouterConfig.from_json((folder / CONFIG_NAME).read_bytes(), str(folder))
    except (OSError, ArtefactError):
        return False
    return True


def save_router(router: Router, folder: str | Path, extra_files: Mapping[str, bytes] | None = None) -> None:
    """Write this router to `folder`: weights, config.json, a model card, and extra files (name -> content).

    All files are written and flushed in a hidden folder next to it, which then replaces it, so a full disk leaves an
    older router intact. Other files of the folder stay, except the state of the training, which has ended.

    Raises:
        PathgenError: the file system refuses (disk full, no permission).
    """
    folder = Path(folder).resolve()
    finish_swap(folder)
    staged = _hidden_neighbour(folder)
    shutil.rmtree(staged, ignore_errors=True)
    try:
        _write_files(router, staged, extra_files or {})
        _swap(staged, folder)
    except OSError as error:
        raise PathgenError(f"cannot write the router {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def finish_swap(folder: Path) -> None:
    """Restore what a process that was killed during the swap has left next to the folder.

    Raises:
        PathgenError: the file system refuses.
    """
    replaced = _hidden_neighbour(folder, "-replaced")
    if not replaced.exists():
        return
    try:
        if not folder.exists():
            os.replace(replaced, folder)
            return
        ended = (folder / CONFIG_NAME).exists()  # the new router is in place, so its training has ended
        for entry in replaced.iterdir():
            if not (folder / entry.name).exists() and not (ended and entry.name == TRAINING_FOLDER):
                os.replace(entry, folder / entry.name)
        flush_folder(folder)
        shutil.rmtree(replaced)
    except OSError as error:
        raise PathgenError(f"cannot restore {folder} from {replaced}: {error.strerror or error}") from error


def _write_files(router: Router, folder: Path, extra_files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()}
    contents = {
        WEIGHTS_NAME: tensor_bytes(weights, {"format": "pt"}),
        CONFIG_NAME: router.config.to_json(),
        CARD_NAME: card_text(router).encode(),
        **(files_of(router.bridges) if router.bridges else {}),
        **extra_files,
    }
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    flush_folder(folder)


def _hidden_neighbour(folder: Path, end: str = "") -> Path:
    return folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}{end}")


def _swap(staged: Path, folder: Path) -> None:
    """Replace `folder` by `staged`; other files of `folder` move over."""
    replaced = _hidden_neighbour(folder, "-replaced")
    if folder.exists():
        os.replace(folder, replaced)
    try:
        os.replace(staged, folder)
    except BaseException:
        if replaced.exists():
            os.replace(replaced, folder)
        raise
    finish_swap(folder)
    flush_folder(folder.parent)
