"""One row alone, with the model's defaults, in a plain loop over its layers: what its place in a batch must give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...paths.layer_path import LayerPath
from ..supported import UnsupportedModelError, tensors_in
from ..wrapped.wrapped_model import WrappedModel
from .closeness import is_close


class Alone:
    """Forwards of one row: no mask, no positions, no cache."""

    def __init__(self, model: WrappedModel):
        self._model = model

    def run(self, row: Sequence[int], path: LayerPath, **inputs: Any) -> Tensor:
        """[T, H] float32 states that the last layer returns, each layer called as often as its path says.

        Args:
            row: T token ids.
            path: one action per layer.
            inputs: passed to the forward beside the ids.
        """
        model = self._model

        def as_often(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            check_shape(model.name, hidden, 1, len(row))
            for _ in range(path[index]):
                hidden = model.run_layer(index, hidden, args, kwargs)
            return model.as_returned(index, hidden)

        with model.mode(as_often):
            return model.run_body(input_ids=self._ids(row), use_cache=False, **inputs)[0].float()

    def checked(self, row: Sequence[int], path: LayerPath) -> Tensor:
        """As `run`, of a path without a skip, in a whole forward in which no layer's return is taken apart.

        A layer may change what comes later in no way but by the states that it returns: its layers' other arguments
        are those of a forward in which no layer runs, what layers return beside the states is nothing or changes
        nothing, and the head gives the forward's own logits from the last states.

        Raises:
            UnsupportedModelError: one of these does not hold, or a layer is not called once; the message says which.
        """
        model, ids = self._model, self._ids(row)
        called: list[int] = []
        given: list[list[Tensor]] = []
        returned: list[Any] = []

        def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            check_shape(model.name, hidden, 1, len(row))
            called.append(index)
            given.append([tensor.clone() for tensor in tensors_in((args, kwargs))])
            for _ in range(path[index]):
                out = model.run_published(index, hidden, *args, **kwargs)
                hidden = model.states_in(index, out)
            returned.append(out)
            return out

        with model.mode(watch):
            logits = model.hf_model(input_ids=ids, use_cache=False).logits[0].float()
        if called != list(range(model.num_layers)):
            raise UnsupportedModelError(
                f"{model.name}: a forward calls {len(called)} layers of its stack of {model.num_layers}, each not once"
            )
        states = model.states_in(called[-1], returned[-1])[0]
        _, calls = model.capture(input_ids=ids, use_cache=False)
        same = len(given) == len(calls) and all(
            len(tensors) == len(others) and all(map(torch.equal, tensors, others))
            for tensors, others in zip(given, map(tensors_in, calls), strict=True)
        )
        if not same or not (all(map(_is_bare, returned)) or self._is_close(self.run(row, path), states)):
            raise UnsupportedModelError(f"{model.name}: its layers hand more than their states to the next")
        if not self._is_close(model.head(states[:2]), logits[:2]):
            raise UnsupportedModelError(f"{model.name}: its head reads more than the last layer's states")
        return states.float()

    def _ids(self, row: Sequence[int]) -> Tensor:
        return torch.tensor([list(row)], device=self._model.device)

    def _is_close(self, got: Tensor, want: Tensor) -> bool:
        return is_close(got, want.float(), self._model.hf_model.dtype)


def check_shape(name: str, states: Tensor, rows: int, tokens: int) -> None:
    """UnsupportedModelError unless the states of the model class `name` are [rows, tokens, H]."""
    if states.dim() != 3 or states.shape[:2] != (rows, tokens):
        raise UnsupportedModelError(
            f"{name}: a layer takes states of shape {tuple(states.shape)}, not one row per question"
        )


def _is_bare(returned: Any) -> bool:
    """Whether a layer returned its states alone, in the form of `as_returned`."""
    return not isinstance(returned, tuple) or (len(returned) == 2 and returned[1] is None)
