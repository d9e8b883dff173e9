"""Which models can be run along paths: finding the decoder layers, and checking at load that all is as assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .cache import RoutedCache

if TYPE_CHECKING:
    from .path_model import PathModel

ATTENTION_KINDS = {"full_attention", "sliding_attention"}


class UnsupportedModelError(InputError):
    """A model family that cannot be run along paths."""


def find_layers(hf_model: Any) -> list[nn.Module]:
    """The decoder layers, first to last: the one list of `num_hidden_layers` equal modules that hold attention.

    Raises:
        UnsupportedModelError: naming the model's class and the reason.
    """
    name, config = type(hf_model).__name__, hf_model.config.get_text_config()
    if hf_model.config.is_encoder_decoder:
        raise UnsupportedModelError(f"{name}: encoder-decoder models are not supported")
    kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTION_KINDS
    if kinds:
        raise UnsupportedModelError(f"{name}: layers of kind {', '.join(sorted(kinds))} are not supported")
    if getattr(config, "num_kv_shared_layers", 0):
        raise UnsupportedModelError(f"{name}: layers that share keys and values cannot be skipped on their own")
    stacks = [
        module
        for module in hf_model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == config.num_hidden_layers
        and len({type(layer) for layer in module}) == 1
        and any(hasattr(part, "layer_idx") for part in module[0].modules())
    ]
    if len(stacks) != 1:
        found = "none" if not stacks else str(len(stacks))
        raise UnsupportedModelError(
            f"{name}: expected one stack of {config.num_hidden_layers} equal decoder layers, found {found}"
        )
    return list(stacks[0])


def take_rows(value: Any, rows: Tensor, batch: int) -> Any:
    """Index by row every tensor of two or more dimensions whose first is the batch, inside tuples and dicts too.

    A first dimension of 1 broadcasts and stays; so does everything else (flags, None, the cache).
    """
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.dim() > 1 and value.shape[0] == batch > 1 else value
    if isinstance(value, (tuple, list)):
        return type(value)(take_rows(part, rows, batch) for part in value)
    if isinstance(value, dict):
        return {key: take_rows(part, rows, batch) for key, part in value.items()}
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


@torch.inference_mode()
def check_wrapped(model: PathModel) -> None:
    """A few three-token forwards that show the wrapped model to be causal, row-wise and cached as assumed.

    Raises:
        UnsupportedModelError: naming the model's class and the first assumption that does not hold.
    """
    name, hf_model = type(model.hf_model).__name__, model.hf_model
    vocab = model.config.vocab_size
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=model.device) % vocab
    positions = torch.arange(3, device=model.device).expand(2, 3)
    cache = RoutedCache(model.num_layers)

    def check_arguments(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[:-1] != ids.shape:
            raise UnsupportedModelError(
                f"{name}: a layer takes states of shape {tuple(hidden.shape)}, not one row per question"
            )
        for tensor in tensors_in((args, kwargs)):
            if tensor.dim() > 1 and tensor.shape[0] not in (1, 2):
                raise UnsupportedModelError(
                    f"{name}: a layer argument of shape {tuple(tensor.shape)} has no row per question (alibi?)"
                )
        return model.as_returned(index, model.run_layer(index, hidden, args, kwargs))

    with model.mode(check_arguments):
        published = hf_model(input_ids=ids, position_ids=positions, use_cache=False).logits
    if not torch.allclose(published[0, :2], published[1, :2], atol=1e-3, rtol=1e-3):
        raise UnsupportedModelError(f"{name}: not causal: a later token changes earlier outputs")

    with model.routed(_everything, torch.ones_like(ids[:, :2])):
        hf_model(input_ids=ids[:, :2], position_ids=positions[:, :2], past_key_values=cache, use_cache=True)
        hf_model(input_ids=ids[:, 2:], position_ids=positions[:, 2:], past_key_values=cache, use_cache=True)
    if len(cache.slots) != model.num_layers or any(slot.used != 3 for slot in cache.slots.values()):
        raise UnsupportedModelError(f"{name}: its layers keep state outside the key-value cache")


class _Everything:
    """Every row executes every layer once."""

    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        return torch.ones(hidden.shape[0], dtype=torch.int64)


_everything = _Everything()
