"""From a model's name to its local folder: an alias, a folder, or a hub id."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import ArtefactError, InputError, one_line
from .facts import fingerprint
from .packaged import ALIASES, convert_alias

UNSUPPORTED_TYPES = {
    "bloom": "its attention biases (alibi) have no row per question",
    "mpt": "its attention biases (alibi) have no row per question",
    "gemma3n": "its layers share keys and values",
    "llama4": "its attention is chunked",
    "mamba": "its layers keep their state outside the key-value cache",
    "mamba2": "its layers keep their state outside the key-value cache",
    "jamba": "its layers keep their state outside the key-value cache",
}
"""model_type -> why it cannot be run along paths, told before anything loads; what is not listed is checked at load."""
DOWNLOADED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja")
"""What is fetched of a repository of the hub."""


def resolve_model(name: str) -> Path:
    """The local folder that holds the model: an alias is converted once, a hub id downloaded.

    Raises:
        InputError: unknown alias, no such folder or hub id, or a folder that holds no causal language model.
    """
    if name in ALIASES:
        folder = convert_alias(name)
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
    """The folder of the model that an artefact was made with, seen to be the same weights still.

    Args:
        model: alias, folder or hub id, as the artefact or the user names it.
        recorded: its fingerprint then.
        where: the artefact, for the message.

    Raises:
        ArtefactError: other weights lie there now.
    """
    folder = resolve_model(model)
    if (found := fingerprint(folder)) != recorded:
        raise ArtefactError(f"{where} was made with a model of fingerprint {recorded}; {model} now has {found}")
    return folder


def _download(name: str) -> Path:
    aliases = ", ".join(sorted(ALIASES))
    shown = repr(one_line(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(f"model {shown} is no alias ({aliases}) and no local folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # the hub's client raises a dozen kinds; the person needs one line
        raise InputError(
            f"model {shown} is no alias ({aliases}), no local folder, and the hub does not provide it "
            f"({type(error).__name__})"
        ) from error


def _check_is_causal_lm(folder: Path, name: str) -> None:
    """Refuse what can be refused by its config alone, before anything is loaded."""
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text())
    except FileNotFoundError:
        raise InputError(f"{name}: no config.json in {folder}: this folder holds no model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{config_file} cannot be read as JSON ({one_line(error)})") from error
    if not _reads_as_config(config):
        raise InputError(f"{config_file} is no model's: an object with a model_type and a list of architectures")
    if config.get("is_encoder_decoder"):
        raise InputError(f"{name}: encoder-decoder models ({config.get('model_type')}) are not supported")
    if reason := UNSUPPORTED_TYPES.get(config.get("model_type", "")):
        raise InputError(f"{name}: {config['model_type']} models cannot be run along paths: {reason}")
    if "auto_map" in config and not _is_known(config.get("model_type", "")):
        raise InputError(f"{name}: its model type {config.get('model_type')} needs code of its own, which is not run")
    architectures = config.get("architectures") or []
    if architectures and not any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in architectures):
        raise InputError(f"{name}: {architectures[0]} is no causal language model")
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{name}: no *.safetensors weights in {folder}; other weight formats are not loaded")


def _reads_as_config(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("model_type", ""), str):
        return False
    architectures = content.get("architectures") or []
    return isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)


def _is_known(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING
