"""The folder of files that belong to no run: converted models, and the record of a local cluster."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`LAYERPATHS_CACHE`, else `layerpaths` in the user's cache folder; it may not exist yet."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "layerpaths"
    return Path(os.environ.get("LAYERPATHS_CACHE", default))
