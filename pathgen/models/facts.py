"""Facts about a model's folder, read without loading the model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..identity import joined
from .identity_parts import config_digest, generation_digest, template_digest, tokenizer_digest
from .reading import load_config

LAYER_NAME = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
SAMPLE_BYTES = 4096
SAMPLES_PER_FILE = 64
HEADER_BYTES = 16 << 20
"""Holds the header of a GGUF file, a vocabulary of 500,000 tokens included."""


def shares_keys(folder: Path) -> bool:
    """Whether some layers read the keys of earlier ones, which a loaded model then pins (`PathModel.pinned_layers`)."""
    return bool(getattr(load_config(folder).get_text_config(), "num_kv_shared_layers", 0))


def fingerprint(folder: Path) -> str:
    """Digests of all that answers depend on, as `pathgen.identity` joins them.

    Of the weights, safetensors headers and sampled slices: a few hundred kilobytes of a model of any size. Two
    checkpoints of one architecture differ in every slice, so a sample is enough.

    Raises:
        InputError: a weights file is damaged, or a config is no JSON.
    """
    digest, weights = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
    old_tokenizer = () if (folder / "tokenizer.json").exists() else ("vocab.json", "merges.txt")
    for name in ("config.json", "tokenizer.json", "tokenizer.model", *old_tokenizer):
        if (folder / name).exists():
            digest.update(name.encode())
            digest.update((folder / name).read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as handle:
            head = handle.read(8)
            header_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if header_bytes > size - 8:
                raise InputError(f"{file} is cut or not a safetensors file (perhaps a git-lfs pointer); fetch it again")
            start = file.name.encode() + head + handle.read(min(header_bytes, size))
            for part in (start, *_samples(handle, 8 + header_bytes, size)):
                digest.update(part)
                weights.update(part)
    parts = {
        "w": weights.hexdigest(),
        "c": config_digest(folder),
        "g": generation_digest(folder),
        "k": tokenizer_digest(folder),
        "p": template_digest(folder),
    }
    return joined(digest.hexdigest(), parts)


def file_digest(file: Path) -> str:
    """16 hex digits of a weights file of any kind: its size, its first bytes (the header), and sampled slices."""
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with file.open("rb") as handle:
        digest.update(handle.read(HEADER_BYTES))
        for part in _samples(handle, 0, size):
            digest.update(part)
    return digest.hexdigest()


def _samples(handle: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for sample in range(SAMPLES_PER_FILE):
        handle.seek(start + (end - start) * sample // SAMPLES_PER_FILE)
        yield handle.read(SAMPLE_BYTES)


def num_layers(folder: Path) -> int:
    """The number of decoder layers that run on text, from the model's config; InputError if it does not state it."""
    return len(_layer_numbers(folder))


def _layer_numbers(folder: Path) -> list[int]:
    """Of the layers that run on text: all but those that attend to images alone."""
    config = json.loads((folder / "config.json").read_text())
    count = next((config[name] for name in LAYER_COUNTS if isinstance(config.get(name), int)), None)
    if count is None and isinstance(config.get("layers_block_type"), list):  # NemotronH
        count = len(config["layers_block_type"])
    of_images = config.get("cross_attention_layers")
    if "text_config" in config:  # which may leave out what is its class's default
        text = load_config(folder).get_text_config()
        count, of_images = (getattr(text, name, None) for name in ("num_hidden_layers", "cross_attention_layers"))
    if count is None:
        raise InputError(f"{folder}/config.json does not state the number of layers")
    return [number for number in range(count) if number not in (of_images or ())]


def layer_parameters(folder: Path, num_layers: int) -> list[float]:
    """Parameters that each layer uses per token, from the safetensors headers.

    Of a mixture's experts, only the number that the config routes a token to counts. Of several stacks of layers, as
    in a model of images and text, the largest counts.

    Raises:
        InputError: a header is damaged.
    """
    config = json.loads((folder / "config.json").read_text())
    if isinstance(config.get("text_config"), dict):
        config |= config["text_config"]
    experts = config.get("num_local_experts") or config.get("num_experts")
    share = (config.get("num_experts_per_tok") or experts) / experts if experts else 1.0
    places = {number: place for place, number in enumerate(_layer_numbers(folder)[:num_layers])}
    stacks: dict[str, list[float]] = defaultdict(lambda: [0.0] * num_layers)
    for name, size in _tensor_sizes(folder).items():
        found = LAYER_NAME.search(name)
        if found and int(found[1]) in places:
            totals = stacks[name[: found.start()]]
            totals[places[int(found[1])]] += size * (share if ".experts." in name else 1.0)
    return max(stacks.values(), key=sum, default=[0.0] * num_layers)


def float32_bytes(folder: Path) -> int:
    """Bytes of all weights as float32, from the safetensors headers; InputError if one is damaged."""
    return 4 * sum(_tensor_sizes(folder).values())


def _tensor_sizes(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as handle:
                header = json.loads(handle.read(struct.unpack("<Q", handle.read(8))[0]))
            sizes |= {name: math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is damaged, or not a safetensors file; fetch it again") from error
    return sizes
