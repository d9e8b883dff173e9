"""What a path means, in the plainest form: the stock model with its list of layers rebuilt along the path.

One row, no padding, no cache, nothing shared, and nothing of the engine under test.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

STACKS = ("model.layers", "transformer.h", "gpt_neox.layers", "model.decoder.layers")
"""Where the families of the tests keep their decoder layers."""


class AffineLayer(nn.Module):
    """Stands in the list of layers for a skipped one: h + matrix · h / sqrt(mean(h²) + 1e-5) + bias, in float64.

    Args:
        matrix: [H, H].
        bias: [H].
    """

    def __init__(self, matrix: Tensor, bias: Tensor):
        super().__init__()
        self.matrix, self.bias = matrix.double(), bias.double()

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        exact = hidden.double()
        normed = exact / torch.sqrt((exact * exact).mean(-1, keepdim=True) + 1e-5)
        return (exact + torch.einsum("bth,oh->bto", normed, self.matrix) + self.bias).to(hidden.dtype)


class Times(nn.Module):
    """Stands in the list of layers for a layer that runs `times` times, one after the other."""

    def __init__(self, layer: nn.Module, times: int):
        super().__init__()
        self.layer, self.times = layer, times

    def __getattr__(self, name: str) -> Any:
        """What a model asks its layers, as their kind, is the layer's own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = self.layer(hidden, *args, **kwargs)  # at least once, for the form in which it returns
        for _ in range(self.times):
            out = self.layer(hidden, *args, **kwargs)
            hidden = out[0] if isinstance(out, tuple) else out
        return (hidden, *given[1:]) if isinstance(given, tuple) else hidden


class Oracle:
    """Runs a model along paths, one row at a time.

    Args:
        hf_model: a stock model, not yet wrapped; it is copied.
        affine: [L] matrices [H, H] and biases [H] that act where a path skips; None: a skip leaves the states.
    """

    def __init__(self, hf_model: Any, affine: Sequence[tuple[Tensor, Tensor]] | None = None):
        self.hf_model = copy.deepcopy(hf_model).eval()
        names = dict(self.hf_model.named_modules())
        self.stack = next(name for name in STACKS if name in names)
        self.layers = list(names[self.stack])
        self.affine = None if affine is None else [AffineLayer(*each) for each in affine]
        self.kinds = list(getattr(self.hf_model.config, "layer_types", None) or [])

    def along(self, path: Sequence[int]) -> Any:
        """The stock model, its list of layers rebuilt along the path; a repeated layer stands twice in it."""
        stack: list[tuple[int, nn.Module]] = []
        for number, times in enumerate(path):
            stack += [(number, self.layers[number])] * times
            if not times and self.affine is not None:
                stack.append((number, self.affine[number]))
        parent, _, name = self.stack.rpartition(".")
        setattr(self.hf_model.get_submodule(parent), name, nn.ModuleList(module for _, module in stack))
        self.hf_model.config.num_hidden_layers = len(stack)
        if self.kinds:  # a layer keeps its own kind of attention wherever it lands
            self.hf_model.config.layer_types = [self.kinds[number] for number, _ in stack]
        return self.hf_model

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], path: Sequence[int]) -> Tensor:
        """[T, V] logits of one unpadded row."""
        row = torch.tensor([list(ids)], device=self.hf_model.device)
        return self.along(path)(input_ids=row, use_cache=False).logits[0]

    def logprobs(self, prompt: Sequence[int], continuation: Sequence[int], path: Sequence[int]) -> Tensor:
        """[K] log-probability of each token of the continuation after the prompt, in nats."""
        logits = self.logits([*prompt, *continuation], path)[len(prompt) - 1 : -1]
        return logits.float().log_softmax(-1)[range(len(continuation)), list(continuation)]


class LoopOracle(Oracle):
    """As `Oracle`, for models whose config cannot be changed with their list: each layer loops in its own place."""

    def along(self, path: Sequence[int]) -> Any:
        """The stock model, in which each layer stands for as many runs as the path gives it."""
        parent, _, name = self.stack.rpartition(".")
        loops = nn.ModuleList(Times(layer, times) for layer, times in zip(self.layers, path, strict=True))
        setattr(self.hf_model.get_submodule(parent), name, loops)
        return self.hf_model
