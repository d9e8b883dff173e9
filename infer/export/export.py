"""One call of `infer export`: choose the path, check it, write the folder whole or not at all."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from cluster.program.folders import built_whole
from pathgen.bridges.folder import load_bridges
from pathgen.engine.path_model import PathModel
from pathgen.errors import InputError, PathgenError
from pathgen.models.facts import fingerprint
from pathgen.models.reading import load_config
from pathgen.paths.layer_path import LayerPath
from pathgen.store.files import TEMPORARY_PREFIX, flush_folder, is_local, open_folder

from .chosen_path import choose
from .divergence import Divergence
from .fold_text import read_sources
from .folded_bridges import FoldedBridges, fold_path
from .folding import foldable_runs
from .model_card import card_text
from .options import ExportOptions
from .parity import check_folder, run_along
from .path_config import PER_LAYER, check_layers, path_config
from .weights import StoredTensor, along_path, stored_tensors, write_tensors

COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "NOTICE*", "USE_POLICY*")
"""Files that go along: tokenizer, generation config, chat template, licence."""
CARD, CONFIG = "README.md", "config.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported folder; the fields are as in `Reference` and `Parity`.

    With bridges, `divergence` has the figures of each way to run the path.
    """

    out: str
    model: str
    path: LayerPath
    depth: int
    parameters: int
    max_logit_gap: float
    divergence: float | Divergence


def export_path(options: ExportOptions, tell: Callable[[str], None]) -> Exported:
    """Write the checkpoint of one path.

    Raises:
        InputError: the path, the model or --out cannot be used, or the model has a part that counts its layers.
        ArtefactError: a router or static path is damaged, or of another model.
        PathgenError: the disk is full, or the memory; or the bridges cannot be folded without too great a loss.
    """
    out = _free_place(options.out)
    given = read_sources(options.text)
    chosen = choose(options)
    path, base = chosen.path, chosen.folder
    if out.is_relative_to(base.resolve()):
        raise InputError(f"--out {out} is in the folder of {chosen.model}; give another place")
    bridges = None
    if chosen.bridges is not None:
        bridges = load_bridges(chosen.bridges, fingerprint(base))
        foldable_runs(path)
    with _about(f"{chosen.model} along {path} cannot be exported"):
        raw = json.loads((base / CONFIG).read_bytes())
        loaded = load_config(base)
        config = path_config(raw, loaded, path)
        stack = check_layers(loaded, config, path)
        tensors = along_path(stored_tensors(base), stack, path)
    tell(f"running {chosen.model} along {path}")
    model = PathModel.from_pretrained(str(base))
    done: FoldedBridges | None = None
    if bridges is not None:
        with _about(f"the bridges of {chosen.model} along {path} cannot be exported"):
            done = fold_path(model, bridges, path, tensors, given, tell)
            done.divergence.check(options.max_divergence_ratio)
    reference = run_along(model, path, done.folds if done else {})
    del model
    gc.collect()  # the wrapped model is a circle; without this it would stay while the new one loads
    with _built(out) as building:
        size = sum(tensor.nbytes for tensor in tensors.values())
        tell(f"writing {size / 1e9:.3f} GB to {out}")
        _write(building, base, config, tensors, size, done.tensors if done else {})
        with _about(f"{chosen.model} along {path} cannot be exported"):
            parity = check_folder(building, reference)
        mixed = any(len(set(config.get(name) or ())) > 1 for name in PER_LAYER)
        card = card_text(chosen, fingerprint(base), reference, parity, mixed=mixed, folded=done)
        (building / CARD).write_text(card, encoding="utf-8")
        _flush(building)
    divergence = reference.divergence if done is None else done.divergence
    return Exported(options.out, chosen.model, path, path.depth, parity.parameters, parity.max_logit_gap, divergence)


def _free_place(out: str) -> Path:
    """The new folder's path, with links resolved; InputError if something is there, or it is not on this machine."""
    fs, root = open_folder(out)
    if not is_local(fs):
        raise InputError(f"--out {out}: a model is written to a local folder; copy it to a store afterwards")
    folder = Path(root).resolve()
    if folder.exists():
        raise InputError(f"--out {out} exists; give a new folder")
    if blocked := next((place for place in folder.parents if place.exists() and not place.is_dir()), None):
        raise InputError(f"--out {out}: {blocked} is a file; give a folder")
    return folder


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Name the model before the reason."""
    try:
        yield
    except PathgenError as error:
        raise type(error)(f"{what}: {error}") from error


@contextmanager
def _built(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, which becomes `out` at the end of the block; removed after any error."""
    building = out.with_name(f"{TEMPORARY_PREFIX}{out.name}")
    try:
        with built_whole(out, building):
            yield building
        flush_folder(out.parent)
    except (OSError, SafetensorError) as error:
        raise PathgenError(f"cannot write {out}: {getattr(error, 'strerror', None) or error}") from error


def _write(
    folder: Path,
    base: Path,
    config: dict[str, Any],
    tensors: dict[str, StoredTensor],
    size: int,
    changed: Mapping[str, Tensor],
) -> None:
    """All files but the card."""
    if (free := shutil.disk_usage(folder).free) < size:
        raise PathgenError(f"{folder.parent} has {free / 1e9:.2f} GB free; the model needs {size / 1e9:.2f} GB")
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    for pattern in COPIED:
        for file in base.glob(pattern):
            if file.is_file() and file.name != CONFIG and not file.name.endswith(".index.json"):
                shutil.copyfile(file, folder / file.name)
    templates = base / "additional_chat_templates"
    if templates.is_dir():
        shutil.copytree(templates, folder / templates.name)
    for file in write_tensors(tensors, folder, changed):
        shutil.copymode(folder / CONFIG, file)  # safetensors makes files that only their owner may read


def _flush(folder: Path) -> None:
    """Flush all files to disk, so that the folder appears whole."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    flush_folder(folder)
