"""The weights of a path's own model: copied tensor by tensor from the base model's files, under new names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pathgen.errors import InputError
from pathgen.paths.layer_path import LayerPath

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_SIZE = "5GB"
"""Largest file, unless one tensor is larger."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: its file, its name there, its size."""

    file: Path
    name: str
    nbytes: int


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by name, from the files that transformers would read.

    Raises:
        InputError: a file is missing or damaged.
    """
    if (folder / ONE_FILE).is_file():
        files = [ONE_FILE]
    else:
        try:
            files = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder} has neither {ONE_FILE} nor a readable {INDEX}") from error
    found = {}
    for file in (folder / name for name in files):
        try:
            with file.open("rb") as handle:
                header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
            for name, entry in header.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    found[name] = StoredTensor(file, name, end - begin)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise InputError(f"{file} is missing, or no safetensors file; fetch it again") from error
    return found


def along_path(tensors: Mapping[str, StoredTensor], stack: str, path: LayerPath) -> dict[str, StoredTensor]:
    """The tensors of the path's own model by their new names: a repeated layer has each of its tensors twice.

    Args:
        tensors: of the base model.
        stack: name of the layers in the loaded model; names on disk may begin otherwise, but end alike.
        path: one action per layer of the base model.

    Raises:
        InputError: the names do not show which tensors are a layer's.
    """
    last = re.escape(stack.rpartition(".")[2])
    pattern = re.compile(rf"((?:.*?\.)??{last}\.)(\d+)(\..+)")
    layers: dict[int, dict[str, StoredTensor]] = {}
    rest, stems = {}, set()
    for name, tensor in tensors.items():
        if match := pattern.fullmatch(name):
            stems.add(match[1])
            layers.setdefault(int(match[2]), {})[match[3]] = tensor
        else:
            rest[name] = tensor
    if len(stems) != 1 or not set(range(len(path))) <= layers.keys():
        raise InputError(f"the names of its tensors do not show which layer they are of (looked for {stack}.NUMBER.)")
    (stem,) = stems
    moved = {
        f"{stem}{place}{end}": tensor
        for place, layer in enumerate(path.executions)
        for end, tensor in layers[layer].items()
    }
    return rest | moved


def read_tensor(tensor: StoredTensor) -> Tensor:
    """A stored tensor, in its own dtype."""
    with safe_open(tensor.file, "pt") as file:
        found: Tensor = file.get_tensor(tensor.name)
    return found


def write_tensors(tensors: Mapping[str, StoredTensor], folder: Path, changed: Mapping[str, Tensor] = {}) -> list[Path]:
    """Write tensors, in their own dtype, as one file or as several with an index; returns the files.

    At most one file's tensors are in memory.

    Args:
        tensors: where each lies, by its new name.
        folder: to write to.
        changed: values in the place of stored ones of the same name, shape and dtype.

    Raises:
        OSError, SafetensorError: the file system refuses.
    """
    plan = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=SHARD_SIZE,
    )
    for file, names in plan.filename_to_tensors.items():
        with ExitStack() as opened:
            sources = {tensors[name].file for name in names}
            handles = {source: opened.enter_context(safe_open(source, "pt")) for source in sources}
            # Copies, as the format refuses two names for one memory.
            content = {
                name: (changed[name] if name in changed else handles[tensors[name].file].get_tensor(tensors[name].name))
                for name in names
            }
            content = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in content.items()}
            save_file(content, folder / file, {"format": "pt"})
    written = [folder / file for file in plan.filename_to_tensors]
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        written.append(folder / INDEX)
    return written
