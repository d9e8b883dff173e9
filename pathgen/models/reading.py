"""A model's config, tokenizer and weights, read by transformers; a failure becomes an error of one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, one_line
from .checking import auto_class
from .tokenizer_checks import checked

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path, **how: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder, with arguments of `from_pretrained`; checked as `checked` says.

    Raises:
        InputError: it does not load, or prompts and answers cannot be scored with it.
    """
    from transformers import AutoTokenizer

    with _one_line_errors(f"the tokenizer in {_read_from(folder, how)} does not load"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **how, trust_remote_code=False)
    return checked(tokenizer, _read_from(folder, how))


def load_config(folder: Path) -> PreTrainedConfig:
    """The config in a model's folder; InputError if transformers cannot load it."""
    from transformers import AutoConfig

    with _one_line_errors(f"{folder}/config.json does not load"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_weights(source: Path, **how: Any) -> PreTrainedModel:
    """The model in a folder, one of images and text whole; `how` are arguments of `from_pretrained`.

    Raises:
        InputError: the model does not load, or its weights do not fit the config, or some are missing (transformers
            would set these at random).
    """
    import transformers

    told = _read_from(source, how)
    with _one_line_errors(f"the model in {told} does not load"):
        # Sizes that do not fit are ignored here, because transformers' own error does not name the tensor.
        how |= {"trust_remote_code": False, "output_loading_info": True, "ignore_mismatched_sizes": True}
        loaded: Any = getattr(transformers, _auto_class_of(source)).from_pretrained(source, **how)
        model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"the weights in {told} lack {len(missing)} tensors, first {', '.join(missing[:3])}")
    if unfit := sorted(info["mismatched_keys"]):
        name, found, wanted = unfit[0]
        raise InputError(
            f"the weights in {told} do not fit its config.json: {name} is {list(found)}, not {list(wanted)}"
        )
    return model


def _auto_class_of(source: Path) -> str:
    file = source / "config.json"
    return (file.exists() and auto_class(json.loads(file.read_text()))) or "AutoModelForCausalLM"


def _read_from(folder: Path, how: Mapping[str, Any]) -> Path:
    """What an error names: the folder, or the GGUF file that `how` asks for."""
    return (folder / how["gguf_file"]).resolve() if "gguf_file" in how else folder


@contextmanager
def _one_line_errors(what: str) -> Iterator[None]:
    """Within the block, any error but lack of memory becomes an InputError: a damaged file may raise every kind."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({type(error).__name__}: {one_line(error)})") from error
