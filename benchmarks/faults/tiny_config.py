"""Tiny configs of any family of transformers, from the family's own defaults and `tiny_settings`."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .tiny_settings import CHANGES, DROP, SIZES

TEXT_TOKENS = 95
"""Tokens below are text; what a config gives a meaning (an image, a pause) is moved above."""
KEPT_WHOLE = {"rope_parameters", "rope_scaling", "quantization_config", "id2label", "label2id"}
TOWERS = ("vision", "audio", "qformer", "speech", "image", "encoder", "visual", "perceiver", "mtp")
OWN_KINDS = {"gemma3n_text", "lfm2", "lfm2_moe", "lfm2_vl", "nemotron_h", "laguna", "granitemoehybrid"}
"""Families whose list of layer kinds is in `CHANGES`, or is their own."""


def tiny_config(kind: str) -> Any:
    """The config of a type, or of a variant `type@what`."""
    name = kind.partition("@")[0]
    config_class = CONFIG_MAPPING[name]
    try:
        defaults = config_class().to_dict()
    except Exception:  # some need arguments
        defaults = {"vocab_size": 1000, "hidden_size": 512, "num_hidden_layers": 12}
    settings = _merged(_shrunk(defaults), CHANGES.get(kind, CHANGES.get(name, {})))
    if defaults.get("is_decoder") is False and "decoder_layers" not in defaults:
        settings["is_decoder"] = True
    config = config_class(**settings)
    if name not in OWN_KINDS and "layer_types" not in CHANGES.get(kind, {}):
        _show_all_kinds(config, defaults)
    return config


def _shrunk(defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings to pass: sizes made small, special tokens moved out of the text, nested configs likewise."""
    small: dict[str, Any] = {}
    token = 127
    for name, value in defaults.items():
        if isinstance(value, dict) and name not in KEPT_WHOLE and "model_type" in value:
            small[name] = {**_shrunk(value), "model_type": value["model_type"]}
            if any(word in name for word in TOWERS):
                small[name] |= {
                    key: 2 for key in ("num_hidden_layers", "encoder_layers", "num_layers") if key in small[name]
                }
        elif isinstance(value, bool) or not isinstance(value, int):
            continue
        elif name.endswith("pad_token_id"):
            small[name] = 0
        elif name.endswith(("_token_id", "_token_index", "_token")):
            if value >= TEXT_TOKENS:
                small[name] = token
                token -= 1
        elif name in SIZES:
            always = name in ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
            small[name] = SIZES[name] if always else min(value, SIZES[name])
    if "kv_lora_rank" in small and "num_key_value_heads" in small:
        small["num_key_value_heads"] = 4
    if "pad_token_id" in defaults:
        small.setdefault("pad_token_id", 0)
    if isinstance(defaults.get("eos_token_id"), list):
        small["eos_token_id"] = [1]
    for name in ("rope_parameters", "rope_scaling"):
        if "mrope_section" in (defaults.get(name) or {}):
            small[name] = {**defaults[name], "mrope_section": [2, 1, 1]}
    return small


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in changes.items():
        if value is DROP:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _show_all_kinds(config: Any, defaults: Any) -> None:
    """Give the few layers every kind that the family's many have, the last one full attention."""
    have, wanted = getattr(config, "layer_types", None), (defaults or {}).get("layer_types")
    if isinstance(have, list) and isinstance(wanted, list):
        count = config.num_hidden_layers
        kinds = list(dict.fromkeys(wanted))
        if set(have) != set(kinds) or len(have) != count:
            config.layer_types = [kinds[place % len(kinds)] for place in range(count)]
            if "full_attention" in kinds:
                config.layer_types[-1] = "full_attention"
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if inner is not None and isinstance(defaults.get(name), dict):
            _show_all_kinds(inner, defaults[name])
