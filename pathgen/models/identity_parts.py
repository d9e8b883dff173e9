"""What of a model's folder its answers depend on besides the weights: config, tokenizer, chat template, by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import InputError, one_line

COSMETIC = {
    *("transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "torch_dtype", "dtype", "use_cache"),
    *("output_attentions", "output_hidden_states", "return_dict", "auto_map", "id2label", "label2id"),
    *("_attn_implementation", "_attn_implementation_autoset", "gradient_checkpointing"),
}
"""Keys of a config that change no answer; the dtype is a setting of each run."""
TOKENIZER_COSMETIC = {
    *("chat_template", "model_max_length", "name_or_path", "_commit_hash", "auto_map", "special_tokens_map_file"),
    *("padding_side", "truncation_side", "processor_class", "backend", "is_local", "local_files_only"),
}
"""Keys of tokenizer_config.json that change no tokens of a prompt; the template is a part of its own."""
GENERATION = {
    *("eos_token_id", "pad_token_id", "bos_token_id", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids"),
    *("suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "sequence_bias"),
    *("encoder_repetition_penalty", "exponential_decay_length_penalty", "min_length", "min_new_tokens", "stop_strings"),
}
"""Keys of generation_config.json that change greedy answers."""


def config_digest(folder: Path) -> str:
    """Of config.json, without cosmetic keys, whatever its order and spacing; InputError if it is no JSON."""
    return _digest(_plain(_read(folder / "config.json"), COSMETIC))


def generation_digest(folder: Path) -> str:
    """Of what generation_config.json says about greedy answers."""
    config = _read(folder / "generation_config.json") or {}
    return _digest({key: value for key, value in config.items() if key in GENERATION and value is not None})


def tokenizer_digest(folder: Path) -> str:
    """Of the tokenizer's files by content."""
    found: dict[str, Any] = {"tokenizer.json": _read(folder / "tokenizer.json")}
    old = () if found["tokenizer.json"] else ("vocab.json", "merges.txt")
    for name in ("tokenizer.model", *old):
        if (folder / name).exists():
            found[name] = hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest()
    if isinstance(found["tokenizer.json"], dict):  # both are given anew at each call
        found["tokenizer.json"] |= {"padding": None, "truncation": None}
    found["tokenizer_config.json"] = _plain(_read(folder / "tokenizer_config.json"), TOKENIZER_COSMETIC)
    return _digest(found)


def template_digest(folder: Path) -> str:
    """Of the chat template's text, in whichever file it stands; line ends and a last newline do not count."""
    return _digest(_template(folder))


def _template(folder: Path) -> Any:
    file = folder / "chat_template.jinja"
    others = {path.stem: _text(path) for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if file.exists():
        return {"default": _text(file), **others}
    for name in ("chat_template.json", "tokenizer_config.json"):
        config = _read(folder / name)
        if isinstance(config, dict) and config.get("chat_template"):
            given = config["chat_template"]
            if isinstance(given, str):
                given = [{"name": "default", "template": given}]
            return {str(each.get("name")): _rendered(str(each.get("template"))) for each in given} | others
    return others


def _text(file: Path) -> str:
    return _rendered(file.read_text(encoding="utf-8"))


def _rendered(template: str) -> str:
    """The template as Jinja reads it."""
    return template.replace("\r\n", "\n").removesuffix("\n")


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read as JSON ({one_line(error)})") from error


def _plain(value: Any, without: set[str]) -> Any:
    """The value without some keys, and with whole numbers as such: some writers say 10000.0 for 10000."""
    if isinstance(value, dict):
        return {key: _plain(entry, without) for key, entry in value.items() if key not in without}
    if isinstance(value, list):
        return [_plain(entry, without) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()
