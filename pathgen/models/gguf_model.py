"""A GGUF file becomes a folder: its values are dequantised to float32, its tokenizer and chat template are kept."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import InputError
from .checking import UNSUPPORTED_TYPES
from .conversions import convert, folder_for, save, stem_of
from .facts import file_digest
from .gguf_file import GgufFile, merge_hint, read_gguf
from .reading import load_tokenizer, load_weights

logger = logging.getLogger(__name__)

VOCABULARY = [f"tokenizer.ggml.{part}" for part in ("tokens", "scores", "token_type", "merges")]
LOAD_SECONDS = 10
SECONDS_PER_ENTRY = 1.5e-4
"""transformers reads the header three times, slowly."""
NO_LANGUAGE_MODELS = {"general", "tokenizer", "t5", "umt5"}
"""Of what transformers' reader lists."""


def gguf_in(folder: Path) -> Path | None:
    """The one GGUF file of a folder without safetensors; None if there is none.

    Raises:
        InputError: there are several.
    """
    files = sorted(folder.glob("*.gguf"))
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        hint = merge_hint(files[0]) or "give the path of one"
        raise InputError(f"{folder} holds {len(files)} GGUF files ({', '.join(f.name for f in files)}); {hint}")
    return files[0]


def convert_gguf(path: Path, name: str | None = None) -> Path:
    """The folder of a GGUF file's model: `name` in the cache folder, else the file's stem and digest.

    Raises:
        InputError: it cannot be read; transformers does not know this architecture; or as `read_gguf` or `convert`.
        PathgenError: as `convert`.
    """
    try:
        folder = folder_for(name or f"{stem_of(path)}-{file_digest(path)}")
        if (folder / "config.json").exists():
            return folder
        file = read_gguf(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    _check_architecture(file)
    held = f"{file.kind}, dequantised values" if file.is_quantised else file.kind
    entries = sum(size for key, size in file.metadata.items() if key in VOCABULARY)
    seconds = LOAD_SECONDS + entries * SECONDS_PER_ENTRY
    return convert(f"{path} ({held})", folder, 4 * sum(file.values.values()), seconds, partial(_write, file))


def _write(file: GgufFile, folder: Path) -> Mapping[str, Any]:
    import torch
    from transformers import GgufConfig

    dequantised = GgufConfig(dequantize=True)
    with TemporaryDirectory() as alone:  # transformers would read the configs of whatever lies beside the file
        (Path(alone) / "model.gguf").symlink_to(file.path.absolute())
        where: dict[str, Any] = {"gguf_file": "model.gguf"}
        tokenizer = load_tokenizer(Path(alone), **where)
        model = load_weights(Path(alone), **where, dtype=torch.float32, quantization_config=dequantised)
    model.hf_quantizer = None  # type: ignore[assignment]  # a quantised model refuses to be saved
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    save(model, tokenizer, folder)
    return {
        "format": "gguf",
        "file": file.path.name,
        "kind": file.kind,
        "quantised": file.is_quantised,
        "values_by_type": dict(file.values),
    }


def _check_architecture(file: GgufFile) -> None:
    """Refuse an architecture that transformers does not read from GGUF; warn of what it leaves unread."""
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    readable = {*GGUF_ARCHS, *GGUF_SUPPORTED_ARCHITECTURES} - NO_LANGUAGE_MODELS - set(UNSUPPORTED_TYPES)
    if _plain(file.architecture) not in map(_plain, readable):
        raise InputError(
            f"{file.path}: the GGUF architecture {file.architecture or 'of no name'} is not supported; "
            f"supported are {', '.join(sorted(readable))}"
        )
    scaling = file.metadata.get(f"{file.architecture}.rope.scaling.type", "none")
    if "rope_freqs.weight" in file.names or (scaling != "none" and _plain(file.architecture) != "gptoss"):
        logger.warning("%s scales its rotary positions; transformers does not read this from GGUF", file.path)


def _plain(architecture: str) -> str:
    """Without the dashes and underscores in which GGUF's and transformers' names differ."""
    return re.sub("[-_]", "", architecture.lower())
