"""A LoRA adapter as PEFT saves it: its base is found by the name it gives, and both are merged once into the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, one_line, some
from ..identity import shown
from .conversions import convert, folder_for, save, stem_of
from .facts import file_digest, fingerprint, float32_bytes
from .reading import load_tokenizer, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LOAD_SECONDS = 10
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder with an adapter.

    Attributes:
        base: alias, folder, GGUF file or hub id of its base model.
    """

    folder: Path
    base: str


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and no model of its own."""
    return (folder / CONFIG).exists() and not (folder / "config.json").exists()


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder; a relative path of its base is looked for beside the adapter first.

    Raises:
        InputError: peft is not installed, the config cannot be read, or it is not a LoRA adapter in safetensors.
    """
    if importlib.util.find_spec("peft") is None:
        raise InputError(f"{folder} holds an adapter, which needs peft: pip install 'layerpaths[adapters]'")
    try:
        config = json.loads((folder / CONFIG).read_text())
        kind, base = config["peft_type"], config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG} is not an adapter's config ({type(error).__name__}: {error})") from error
    if kind != "LORA":
        raise InputError(f"{folder} holds an adapter of type {kind}; only LORA is merged")
    if not isinstance(base, str) or not base:
        raise InputError(f"{folder / CONFIG} does not name its base: set base_model_name_or_path")
    if not (folder / WEIGHTS).exists():
        raise InputError(f"{folder} holds no {WEIGHTS}; other formats are not loaded")
    beside = folder / base
    return Adapter(folder, str(beside) if not Path(base).is_absolute() and beside.exists() else base)


def merge_adapter(adapter: Adapter, base: Path) -> Path:
    """The folder of the merged model in the cache folder, named after the adapter and a digest of it and its base.

    Raises:
        InputError: the adapter does not fit the base; or as `convert` and `load_weights`.
        PathgenError: as `convert`.
    """
    digest = hashlib.blake2b(shown(fingerprint(base)).encode(), digest_size=8)
    digest.update((adapter.folder / CONFIG).read_bytes() + file_digest(adapter.folder / WEIGHTS).encode())
    folder = folder_for(f"{stem_of(adapter.folder.absolute())}-{digest.hexdigest()}")
    what = f"{adapter.folder} merged into {adapter.base}"
    return convert(what, folder, float32_bytes(base), LOAD_SECONDS, partial(_write, adapter, base))


def _write(adapter: Adapter, base: Path, folder: Path) -> Mapping[str, Any]:
    import torch

    own_tokenizer = any((adapter.folder / name).exists() for name in TOKENIZER_FILES)
    tokenizer = load_tokenizer(adapter.folder if own_tokenizer else base)
    model = load_weights(base, dtype=torch.float32, use_safetensors=True)
    save(_merged(model, adapter), tokenizer, folder)
    return {"format": "lora", "adapter": str(adapter.folder.absolute()), "base": adapter.base}


def _merged(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        whole = PeftModel.from_pretrained(model, adapter.folder)
        wanted = set(get_peft_model_state_dict(whole))
        with safe_open(adapter.folder / WEIGHTS, "pt") as file:
            held = set(file.keys())
        if unfit := sorted(held ^ wanted):  # of these peft only warns
            raise ValueError(f"{len(unfit)} tensors stand on one side only: {some(unfit)}")
        return whole.merge_and_unload()
    except Exception as error:  # a wrong base may raise every kind
        raise InputError(
            f"the adapter in {adapter.folder} does not fit its base {adapter.base} "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
