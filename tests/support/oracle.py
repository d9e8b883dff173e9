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


class Oracle:
    """Runs a model along paths, one row at a time.

    Args:
        hf_model: a stock model, not yet wrapped; it is copied.
    """

    def __init__(self, hf_model: Any):
        self.hf_model = copy.deepcopy(hf_model).eval()
        names = dict(self.hf_model.named_modules())
        self.stack = next(name for name in STACKS if name in names)
        self.layers = list(names[self.stack])
        self.kinds = list(getattr(self.hf_model.config, "layer_types", None) or [])

    def along(self, path: Sequence[int]) -> Any:
        """The stock model, its list of layers rebuilt along the path; a repeated layer stands twice in it."""
        executed = [layer for layer, times in enumerate(path) for _ in range(times)]
        parent, _, name = self.stack.rpartition(".")
        setattr(self.hf_model.get_submodule(parent), name, nn.ModuleList(self.layers[i] for i in executed))
        self.hf_model.config.num_hidden_layers = len(executed)
        if self.kinds:  # a layer keeps its own kind of attention wherever it lands
            self.hf_model.config.layer_types = [self.kinds[i] for i in executed]
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
