"""The config of a path's own model, and the check that it gives every layer the settings that it had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pathgen.engine.supported import find_layers
from pathgen.errors import InputError, one_line
from pathgen.paths.layer_path import LayerPath

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Names of the number of layers."""
PER_LAYER = (
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "layer_rope_theta",
    "num_attention_heads_per_layer",
)
"""Names of lists with one entry per layer."""
LAYER_NUMBER_LISTS = ("attn_layer_indices", "moe_layers")
"""Names of lists of the layers that differ from the others."""
BY_LAYER_NUMBER = "per_layer_config"
"""The name of settings of single layers, by the layer's number."""
FIRST_LAYERS = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "moe_layer_start_index")
"""Names of numbers k: the first k layers differ from the others."""
PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers", "no_rope_layer_interval")
"""Names of rules by a layer's number; the lists per layer, which the new config has, replace them."""
LAYER_NUMBERS = ("layer_idx", "layer_id", "layer_index")
"""Attributes of modules that hold the layer's number: the only ones that may differ."""


def path_config(raw: Mapping[str, Any], base: PreTrainedConfig, path: LayerPath) -> dict[str, Any]:
    """The content of config.json for the layers that the path executes, each execution a layer of its own.

    Args:
        raw: content of the base model's config.json.
        base: the same, read by transformers, which adds what follows from it.
        path: one action per layer of the base model.

    Raises:
        InputError: the weights are quantised, the layers have embeddings of their own, or the config is of more than
            a language model.
    """
    if "quantization_config" in raw:
        method = one_line(raw["quantization_config"].get("quant_method", "method not stated"))
        raise InputError(f"its weights are quantised ({method}); export the model that they were made from")
    if base.get_text_config() is not base:
        raise InputError(f"its config ({raw.get('model_type')}) has a model beside the language model")
    if getattr(base, "hidden_size_per_layer_input", 0):
        raise InputError("its embeddings of all layers lie in one table")
    config = {name: value for name, value in raw.items() if name not in (*PATTERNS, "auto_map")}
    for name in COUNTS:
        if config.get(name) == len(path):
            config[name] = path.depth
    config |= {name: values for name, values in _along(base, path).items() if not _is_computed(base, name)}
    for name in LAYER_NUMBER_LISTS:
        if (others := getattr(base, name, None)) is not None:
            config[name] = [place for place, layer in enumerate(path.executions) if layer in others]
    if settings := raw.get(BY_LAYER_NUMBER):
        own = {int(layer): values for layer, values in settings.items()}
        config[BY_LAYER_NUMBER] = {
            str(place): own[layer] for place, layer in enumerate(path.executions) if layer in own
        }
    for name in FIRST_LAYERS:
        if (first := getattr(base, name, None)) is not None:
            config[name] = sum(path[:first])
    if (last := getattr(base, "moe_layer_end_index", None)) is not None:
        config["moe_layer_end_index"] = sum(path[: last + 1]) - 1
    if (dense := getattr(base, "mlp_only_layers", None)) is not None:
        step = base.decoder_sparse_step
        is_dense = [layer in dense or (layer + 1) % step != 0 for layer in path.executions]
        config |= {
            "mlp_only_layers": [place for place, it_is in enumerate(is_dense) if it_is],
            "decoder_sparse_step": 1,
        }
    if config.get("num_nextn_predict_layers"):
        config["num_nextn_predict_layers"] = 0  # these layers come after the last, and are not exported
    return config


def check_layers(base: PreTrainedConfig, config: Mapping[str, Any], path: LayerPath) -> str:
    """Check, without weights, that each layer of the new model is built as the base's layer that it stands for.

    Returns:
        The name of the stack of layers in the base model, as `model.layers`.

    Raises:
        UnsupportedModelError: the model cannot be run along paths.
        InputError: a layer's work depends on its number in a way that the config cannot say.
    """
    old = _skeleton(base)
    layers = find_layers(old)
    stack = next(name for name, module in old.named_modules() if module is layers[0]).removesuffix(".0")
    try:
        written = type(base).from_dict(json.loads(json.dumps(config), object_hook=_special_float))
        new = _skeleton(written)
        new_layers = list(new.get_submodule(stack).children())
    except Exception as error:  # a config class may raise anything about values that it did not expect
        raise InputError(f"its config cannot say which layers remain ({one_line(error)})") from error
    if len(new_layers) != path.depth:
        raise InputError(f"its config cannot say how many layers remain: {len(new_layers)} for a depth of {path.depth}")
    for name, wanted in _along(base, path).items():
        if getattr(written, name, None) != config.get(name, wanted):
            raise InputError(f"its config computes {name} from the layers' numbers and keeps no other")
    for place, layer in enumerate(path.executions):
        before, after = _settings(layers[layer]), _settings(new_layers[place])
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                raise InputError(
                    f"its layers compute {name} from their number, so layer {layer} would change as number {place}: "
                    f"{after.get(name)} instead of {before.get(name)}"
                )
    _check_rest(old, new, stack)
    return stack


def _along(base: PreTrainedConfig, path: LayerPath) -> dict[str, list[Any]]:
    """The lists of PER_LAYER that a config has, with one entry for each layer that the path executes."""
    lists = {name: values for name in PER_LAYER if (values := getattr(base, name, None))}
    return {name: [values[layer] for layer in path.executions] for name, values in lists.items()}


def _is_computed(base: PreTrainedConfig, name: str) -> bool:
    """Whether a list is a property of the config's class, so that no config.json can hold it."""
    return isinstance(getattr(type(base), base.attribute_map.get(name, name), None), property)


def _skeleton(config: PreTrainedConfig) -> Any:
    """The model of a config, its weights without memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _special_float(value: dict[str, Any]) -> Any:
    """An object of a config.json, or the infinity that transformers writes as one."""
    return float(value["__float__"]) if value.keys() == {"__float__"} else value


def _settings(layer: nn.Module) -> dict[str, object]:
    """What is plain in a layer: the classes of its parts, their numbers, names and switches."""
    found: dict[str, object] = {}
    for name, part in layer.named_modules(prefix="layer"):
        found[f"{name}, a class"] = type(part).__name__
        for key, value in vars(part).items():
            if key not in LAYER_NUMBERS and isinstance(value, (str, int, float, bool)):
                found[f"{name}.{key}"] = value
    return found


def _check_rest(old: nn.Module, new: nn.Module, stack: str) -> None:
    """Refuse weights outside the stack whose size counts the layers, as embeddings per layer have it."""
    sizes = {name: value.shape for name, value in new.named_parameters()}
    for name, value in old.named_parameters():
        if not name.startswith(f"{stack}.") and sizes.get(name) != value.shape:
            raise InputError(f"the size of its {name} depends on the number of layers")
