"""Refuses models that the config alone rules out, before they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError, one_line

UNSUPPORTED_TYPES = {
    "gemma3n": "its layers take four streams of states at a time",
    "mamba": "its layers keep their state in a cache of its own kind",
    "mamba2": "its layers keep their state in a cache of its own kind",
    "recurrent_gemma": "its recurrence does not leave out padding on the left",
    "zaya": "its layers hand more than their states to the next",
}
"""model_type -> why it cannot be run along paths. These are refused before loading; other types are checked at load."""


class UnsupportedTypeError(InputError):
    """A model of a type that cannot be run along paths, as its config says.

    Attributes:
        config: the content of its config.json.
    """

    def __init__(self, message: str, config: dict[str, Any]):
        super().__init__(message)
        self.config = config


def check_is_causal_lm(folder: Path, name: str) -> None:
    """Check that the folder's config is that of a model of text, or of images and text, that can be run along paths.

    Raises:
        UnsupportedTypeError: it is of a type that cannot be.
        InputError: there is no config, it is none, or there are no weights that can be loaded.
    """
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
        raise UnsupportedTypeError(
            f"{name}: encoder-decoder models ({config.get('model_type')}) are not supported", config
        )
    if reason := UNSUPPORTED_TYPES.get(config.get("model_type", "")):
        raise UnsupportedTypeError(f"{name}: {config['model_type']} models cannot be run along paths: {reason}", config)
    if "auto_map" in config:
        from transformers import CONFIG_MAPPING

        if config.get("model_type", "") not in CONFIG_MAPPING:
            kind = config.get("model_type")
            raise InputError(f"{name}: its model type {kind} needs code of its own, which is not run")
    architectures = config.get("architectures") or []
    is_causal = not architectures or any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in architectures)
    if not is_causal and auto_class(config) is None:
        raise UnsupportedTypeError(f"{name}: {architectures[0]} is not a causal language model", config)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{name}: no *.safetensors weights in {folder}; other weight formats are not loaded")


def auto_class(config: dict[str, Any]) -> str | None:
    """The automatic class of transformers whose class for this type is the architecture that the config names.

    Of a model of images and text it is the one that loads it whole, which then runs on text alone; None: there is none.
    """
    from transformers.models.auto import modeling_auto as auto

    named = set(config.get("architectures") or ())
    classes = {
        "AutoModelForCausalLM": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "AutoModelForImageTextToText": auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    }
    for name, by_type in classes.items():
        own = by_type.get(config.get("model_type", ""), ())
        if {own} & named if isinstance(own, str) else named.intersection(own):
            return name
    return None


def _reads_as_config(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("model_type", ""), str):
        return False
    architectures = content.get("architectures") or []
    return isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
