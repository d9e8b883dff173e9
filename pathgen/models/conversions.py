"""Models converted once into the cache folder: what is read from there on is an ordinary folder of safetensors.

The weights are always float32. A quantised file's values, and those of a merged adapter, are not exactly bfloat16, so
a narrower type would be another model; float32 is larger on disk, and right. `--dtype` narrows it at load as ever.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.program.folders import built_whole, cache_folder

from ..errors import InputError, PathgenError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

ORIGIN = "converted_from.json"
"""File beside config.json: what the folder was made of. transformers does not read it."""
SHARD_SIZE = "5GB"
SPARE_BYTES = 100 << 20
"""Room on the disk for what is not weights."""
SECONDS_PER_GB = 20
"""Of float32, to dequantise and write, measured on one core."""
LONGEST_STEM = 100


def folder_for(name: str) -> Path:
    """Where the conversion called `name` lies; it is complete if the folder exists."""
    return cache_folder() / name


def stem_of(path: Path) -> str:
    """The readable part of a conversion's name."""
    return (path.stem if path.suffix.lower() == ".gguf" else path.name)[:LONGEST_STEM]


def convert(
    what: str, folder: Path, num_bytes: int, more_seconds: float, write: Callable[[Path], Mapping[str, Any]]
) -> Path:
    """The folder, written once under a lock: complete or not at all.

    Args:
        what: names the source in messages.
        folder: as `folder_for` gives it.
        num_bytes: size of the weights as float32.
        more_seconds: roughly what is spent on other things than weights, for the message.
        write: writes the model into an empty folder, and returns what is recorded as its origin.

    Raises:
        InputError: the disk has too little room; or as `write`.
        PathgenError: the conversion could not be written.
    """
    if (folder / "config.json").exists():
        return folder
    from filelock import FileLock

    building = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "config.json").exists():
                _check_room(what, folder.parent, num_bytes)
                seconds = more_seconds + num_bytes / 1e9 * SECONDS_PER_GB
                logger.warning(
                    "converting %s to %.1f GB of float32 safetensors in %s (once, about %s)",
                    what,
                    num_bytes / 1e9,
                    folder,
                    f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s",
                )
                _build(folder, building, write)
    except OSError as error:
        raise PathgenError(f"{what} could not be converted into {folder} ({one_line(error)})") from error
    return folder


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model and its tokenizer; OSError if the disk does not take them."""
    try:
        model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # both libraries have errors of their own for a full disk
        raise OSError(f"{type(error).__name__}: {error}") from error


def _build(folder: Path, building: Path, write: Callable[[Path], Mapping[str, Any]]) -> None:
    with built_whole(folder, building):
        origin = write(building)
        (building / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)


def _check_room(what: str, cache: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < num_bytes + SPARE_BYTES:
        raise InputError(
            f"converting {what} takes {num_bytes / 1e9:.1f} GB in {cache}, where {free / 1e9:.1f} GB are free; "
            "LAYERPATHS_CACHE names another folder"
        )
