"""Where a model comes from: aliases, folders and hub ids; and how one is told from another without loading it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArtefactError, InputError, memory_told, one_line
from .packaged import ALIASES, convert_alias
from .reading import load_tokenizer, load_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
"""In which a model is run."""

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

OLD_TOKENIZER = ("vocab.json", "merges.txt")
"""Files of a byte-pair tokenizer that has no tokenizer.json."""
DOWNLOADED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja")
"""What is fetched of a repository of the hub."""
LAYER_NAME = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
SAMPLE_BYTES = 4096
SAMPLES_PER_FILE = 64


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


def load_model(
    name: str, *, dtype: str = "float32", device: str = "cpu", device_map: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The frozen Hugging Face model in eval mode, and its tokenizer.

    Args:
        name: alias, folder or hub id.
        dtype: a torch dtype's name, for example `float32` or `bfloat16`.
        device: a torch device; ignored when `device_map` is given.
        device_map: as in transformers, for a model larger than one device.

    Raises:
        InputError: as `resolve_model`, for an unknown dtype or an unusable device, for a checkpoint that does not load
            or lacks weights, and for a model that `auto` finds too large for the devices.
        PathgenError: the device has not enough memory.
    """
    import torch

    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: use {', '.join(DTYPES)}")
    target = _usable_device(device)
    folder = resolve_model(name)
    with memory_told("a narrower --dtype, or another --device"):
        model = load_weights(folder, dtype=getattr(torch, dtype), device_map=device_map, use_safetensors=True)
        if device_map is None:
            model = model.to(target)  # type: ignore[arg-type]
        elif device_map == "auto":
            _refuse_spilled(model, name)
    model.eval().requires_grad_(False)
    return model, load_tokenizer(folder)


def _usable_device(device: str) -> torch.device:
    """A torch device of a kind that is supported, and that is there."""
    import torch

    try:
        target = torch.device(device)
    except RuntimeError:
        target = None
    if target is None or target.type not in ("cpu", "cuda"):
        raise InputError(f"device {device!r} cannot be used: give cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if target.type == "cuda" else 0
    if target.type == "cuda" and (target.index or 0) >= count:
        seen = f"{count or 'no'} CUDA device{'s' * (count > 1)}"
        raise InputError(f"device {device!r} asked for, but torch sees {seen} here")
    return target


def _refuse_spilled(model: PreTrainedModel, name: str) -> None:
    """Parts for which no GPU has room are left in main memory or on disk, from where each forward would fetch them."""
    places = getattr(model, "hf_device_map", {})  # absent where one GPU took it all
    spilled = [part for part, place in places.items() if str(place) in ("cpu", "disk")]
    if spilled:
        raise InputError(
            f"model {name!r} does not fit the GPUs of one actor: no room for {len(spilled)} parts from {spilled[0]}; "
            "give more by --gpus-per-actor"
        )


def fingerprint(folder: Path) -> str:
    """16 hex digits over config, tokenizer, safetensors headers and sampled slices of the weights.

    Reads a few hundred kilobytes whatever the model's size; two checkpoints of one architecture differ in
    every sampled slice, so a sample is enough to tell them apart.
    """
    digest = hashlib.blake2b(digest_size=8)
    names = ["config.json", "tokenizer.json", "tokenizer.model"]
    if not (folder / "tokenizer.json").exists():
        names += OLD_TOKENIZER  # else nothing reads them
    for name in names:
        if (folder / name).exists():
            digest.update(name.encode())
            digest.update((folder / name).read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as handle:
            head = handle.read(8)
            header_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if header_bytes > size - 8:
                raise InputError(f"{file} is cut, or no safetensors file (perhaps a git-lfs pointer); fetch it again")
            digest.update(file.name.encode() + head + handle.read(min(header_bytes, size)))
            for sample in range(SAMPLES_PER_FILE):
                handle.seek(8 + header_bytes + (size - 8 - header_bytes) * sample // SAMPLES_PER_FILE)
                digest.update(handle.read(SAMPLE_BYTES))
    return digest.hexdigest()


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


def num_layers(folder: Path) -> int:
    """Decoder layers, by the model's config.

    Raises:
        InputError: if the config does not tell.
    """
    config = json.loads((folder / "config.json").read_text())
    for section in (config, config.get("text_config")):
        for name in ("num_hidden_layers", "n_layer", "num_layers"):
            if isinstance(section, dict) and isinstance(section.get(name), int):
                return section[name]
    raise InputError(f"{folder}/config.json does not tell the number of layers")


def weight_bytes(folder: Path) -> int:
    """Size of the weights on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def layer_parameters(folder: Path, num_layers: int) -> list[float]:
    """Parameters that each layer uses per token, read from the safetensors headers.

    Of a mixture's experts only as many count as the config routes a token to.

    Raises:
        InputError: a header is damaged.
    """
    config = json.loads((folder / "config.json").read_text())
    experts = config.get("num_local_experts") or config.get("num_experts")
    share = (config.get("num_experts_per_tok") or experts) / experts if experts else 1.0
    totals = [0.0] * num_layers
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as handle:
                header = json.loads(handle.read(struct.unpack("<Q", handle.read(8))[0]))
            sizes = {name: math.prod(entry["shape"]) for name, entry in header.items() if LAYER_NAME.search(name)}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is damaged, or no safetensors file; fetch it again") from error
        for name, size in sizes.items():
            layer = int(LAYER_NAME.findall(name)[0])
            if layer < num_layers:
                totals[layer] += size * (share if ".experts." in name else 1.0)
    return totals


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


def _reads_as_config(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("model_type", ""), str):
        return False
    architectures = content.get("architectures") or []
    return isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)


def _is_known(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


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
