"""The folder of files that belong to no run, and a new folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """`LAYERPATHS_CACHE`, else `layerpaths` in the user's cache folder; it may not exist yet.

    It holds converted models, and the record of a local cluster.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "layerpaths"
    return Path(os.environ.get("LAYERPATHS_CACHE", default))


@contextmanager
def built_whole(folder: Path, building: Path) -> Iterator[None]:
    """Within the block, `building` is an empty folder beside `folder`, which it becomes at the end.

    It is removed after any error; what a killed process left there is replaced.
    """
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
