"""The matrix that writes an MLP's output into the states: found in any decoder layer, and tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pathgen.engine.path_model import PathModel, forward_inputs
from pathgen.errors import InputError

PROBE_TOKENS = 4
PROBE_ERROR = 1e-2
"""Largest accepted part of a change of the matrix's output that does not reach the layer's output as it is."""
REMEDY = "export it without --bridges, or run the bridged path here"


@dataclass(frozen=True, slots=True, eq=False)
class OutputMatrix:
    """The last linear map of a layer: h = rest + scale · (W·m + bias), with m the MLP's inner activation.

    Attributes:
        name: of the module within the layer, as `mlp.down_proj`.
        module: nn.Linear, or the Conv1D of GPT-2, whose weight is transposed.
        scale: what the layer multiplies the output with, mostly 1.
    """

    name: str
    module: Any
    scale: float

    @property
    def transposed(self) -> bool:
        """Whether the stored weight is [I, H]."""
        return not isinstance(self.module, nn.Linear)

    @property
    def weight(self) -> Tensor:
        """[H, I] of width H and inner width I, as the module holds it now."""
        weight: Tensor = self.module.weight.detach()
        return weight.T if self.transposed else weight

    @property
    def has_bias(self) -> bool:
        """Whether a constant can be stored."""
        return self.module.bias is not None

    @contextmanager
    def replaced(self, weight: Tensor, bias: Tensor | None) -> Iterator[None]:
        """Within the block, the module has another weight [H, I] and bias [H]."""
        own = self.module.weight, self.module.bias
        stored = weight.T if self.transposed else weight
        self.module.weight = nn.Parameter(stored.to(own[0]).contiguous(), requires_grad=False)
        if bias is not None:
            self.module.bias = nn.Parameter(bias.to(own[1]), requires_grad=False)
        try:
            yield
        finally:
            self.module.weight, self.module.bias = own

    @contextmanager
    def watched(self, found: list[Tensor]) -> Iterator[None]:
        """Within the block, each m [..., I] that reaches the matrix is appended to `found`."""
        handle = self.module.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            yield
        finally:
            handle.remove()


@torch.inference_mode()
def output_matrix(model: PathModel, layer: int) -> OutputMatrix:
    """The output matrix of a layer's MLP, tried on a few tokens.

    Raises:
        InputError: the layer has experts, or its last linear map does not write into the states as it is, for example
            because a norm follows.
    """
    from transformers.pytorch_utils import Conv1D

    name, width = type(model.hf_model).__name__, model.config.hidden_size
    parts = dict(model.layers[layer].named_modules())
    if any("experts" in part.split(".") for part in parts):
        raise InputError(f"{name} has experts, so no one matrix can take up its bridges; {REMEDY}")
    found = [
        (part, module)
        for part, module in parts.items()
        if isinstance(module, (nn.Linear, Conv1D))
        and module.weight.shape[1 if isinstance(module, Conv1D) else 0] == width
    ]
    if not found:
        raise InputError(f"{name} has no linear map at the end of its MLP that could take up the bridges; {REMEDY}")
    part, module = found[-1]
    scale = _scale(model, layer, module)
    if scale is None:
        raise InputError(
            f"{name} changes what {part} gives before it reaches the states (a norm after the MLP?), so its matrix "
            f"cannot take up the bridges; {REMEDY}"
        )
    return OutputMatrix(part, module, scale)


def _scale(model: PathModel, layer: int, module: nn.Module) -> float | None:
    """C if c · e is added to the layer's states when e is added to the module's output; None if anything else is."""
    found: list[float | None] = []

    def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = model.run_layer(index, hidden, args, kwargs)
        if index == layer:
            before = out.double()
            added = torch.randn(before.shape[-1], generator=torch.Generator().manual_seed(0)).to(out)
            added *= before.std().to(out)
            handle = module.register_forward_hook(lambda _, given, own: own + added)
            try:
                change = model.run_layer(index, hidden, args, kwargs).double() - before
            finally:
                handle.remove()
            e = added.double()
            scale = float((change @ e).mean() / (e @ e))
            apart = float((change - scale * e).norm() / (change.norm() + 1e-30))
            found.append(scale if scale > 0 and apart <= PROBE_ERROR else None)
        return model.as_returned(index, out)

    ids = (torch.arange(PROBE_TOKENS, device=model.device) % model.config.vocab_size)[None]
    with model.mode(watch):
        model.run_body(**forward_inputs(ids, torch.ones_like(ids)))
    return found[0]
