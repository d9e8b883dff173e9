"""A frozen Hugging Face causal language model whose decoder layers follow a mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...hooks.forwards import HookedForward, shared_module
from ...hooks.here import Here
from ..probe.arguments import RowAxes
from ..probe.restrictions import Restrictions
from ..supported import UnsupportedModelError, find_head, find_layers, pinned_layers
from ..vocabulary import float32_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LayerFunction = Callable[..., Any]
"""(layer index, hidden [B, T, H], *the layer's other arguments) -> what the layer would return."""
LayerCalls = list[tuple[tuple, dict]]
"""(args, kwargs) of each layer, without the hidden states."""


class WrappedModel:
    """The model's own forward runs embeddings, masks, rotary tables, final norm and head; its layers follow a mode.

    Each decoder layer's `forward` is replaced on the instance by one that calls the function of the calling thread's
    mode, or the layer's own. No module is replaced, and the names in the state dict stay.

    Attributes:
        layers: the decoder layers, first layer first.
        name: the model's class, for messages.
        hooks: what stands as forward on the model's modules.
        pinned_layers: always execute once, because later layers read their keys and values.
        restrictions: how rows may share a batch, as tried when the model was wrapped.
        row_axes: where rows lie in its layers' arguments, if not first.

    Raises:
        UnsupportedModelError: the model has no stack of layers of their own, or no head; the message names it.
    """

    def __init__(self, hf_model: PreTrainedModel):
        self.hf_model = hf_model.eval().requires_grad_(False)
        self.name = type(hf_model).__name__
        self.layers: list[nn.Module] = find_layers(hf_model)
        head = find_head(hf_model)
        if (places := shared_module(self.layers)) is not None:
            raise UnsupportedModelError(
                f"{self.name}: its layers {places[0]} and {places[1]} are one module, with one place "
                "in paths and in the cache; give each layer its own (copy.deepcopy)"
            )
        self.num_layers = len(self.layers)
        self.pinned_layers = pinned_layers(self.layers)
        self.row_axes: RowAxes = {}
        self.restrictions = Restrictions(self.name)
        self._mode = Here[LayerFunction]()
        self._float32_head = Here[bool]()
        self._returns_tuple = [False] * self.num_layers
        self._layer_hooks = [HookedForward(layer, partial(self._run, index)) for index, layer in enumerate(self.layers)]
        self._head_hook = HookedForward(head, self._run_head)
        self.hooks = [*self._layer_hooks, self._head_hook]
        self._is_wrapped = True

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a PathModel cannot be pickled: load the model again, or save hf_model with save_pretrained")

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.hf_model.device

    @property
    def config(self) -> Any:
        """The text model's config."""
        return self.hf_model.config.get_text_config()

    def unwrap(self) -> None:
        """Restore the model's own forwards. This PathModel then runs no more; `PathModel(hf_model)` wraps again.

        Raises:
            ValueError: the model was wrapped again since.
        """
        if not self._is_wrapped:
            return
        if not all(hook.is_outermost for hook in self.hooks):
            raise ValueError("the model was wrapped again since: unwrap the later PathModel first")
        for hook in self.hooks:
            hook.restore()
        self._is_wrapped = False

    # Modes: what a layer's forward currently does in this thread.

    @property
    def in_mode(self) -> bool:
        """Whether the layers follow a mode in this thread."""
        return self._mode.get() is not None

    def mode(self, function: LayerFunction) -> AbstractContextManager[None]:
        """Within the block, every decoder layer calls `function` instead of its own forward, in this thread.

        Raises:
            ValueError: the model is unwrapped.
        """
        if not self._is_wrapped:
            raise ValueError(
                "this PathModel was unwrapped, so its layers follow no path: wrap with PathModel(hf_model)"
            )
        return self._mode.be(function)

    def _run(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (self._mode.get() or self.run_published)(index, hidden, *args, **kwargs)

    def run_published(self, index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The layer's own forward, with what it returns as it is."""
        return self._layer_hooks[index].stock(hidden, *args, **kwargs)

    def run_layer(self, index: int, hidden: Tensor, args: tuple, kwargs: dict) -> Tensor:
        """The layer's own forward: [R, T, H] in, [R, T, H] out."""
        return self.states_in(index, self.run_published(index, hidden, *args, **kwargs))

    def states_in(self, index: int, returned: Any) -> Tensor:
        """The states [R, T, H] in what a layer's own forward returned, whose form `as_returned` takes from now on."""
        is_tuple = self._returns_tuple[index] = isinstance(returned, tuple)
        return returned[0] if is_tuple else returned

    def as_returned(self, index: int, hidden: Tensor) -> Any:
        """Wrap the states as this layer's own forward would return them."""
        return (hidden, None) if self._returns_tuple[index] else hidden

    def _run_head(self, states: Tensor, *args: Any, **kwargs: Any) -> Any:
        head = self._head_hook
        if self.in_mode:
            states = states.contiguous()  # the product of a strided batch copies the whole weight for each row
        if self._float32_head.get() and type(head.module) is nn.Linear:
            return float32_logits(head.module, states)
        return head.stock(states, *args, **kwargs)

    # Parts of a forward.

    def run_body(self, **inputs: Any) -> Tensor:
        """[B, T, H] that the last layer returns: a forward in the current mode that ends before the head."""
        mode, last = self._mode.get(), self.num_layers - 1
        found: list[Tensor] = []

        def watch(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            out = (mode or self.run_published)(index, hidden, *args, **kwargs)
            if index == last:
                found.append(out[0] if isinstance(out, tuple) else out)
            return out

        with self.mode(watch):
            self.hf_model.base_model(**inputs)
        return found[0]

    def capture(self, **inputs: Any) -> tuple[Tensor, LayerCalls]:
        """The first hidden states [B, T, H] of a forward, and what each layer is called with; no layer runs."""
        first: list[Tensor] = []
        calls: LayerCalls = []

        def record(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            if index == 0:
                first.append(hidden)
            calls.append((args, kwargs))
            return self.as_returned(index, hidden)

        with self.mode(record):
            self.hf_model.base_model(**inputs)
        return first[0], calls

    def head(self, states: Tensor) -> Tensor:
        """[N, V] float32 logits of [N, H] states that the last layer returned.

        A stock forward of N rows of one token takes them as its last layer's output, so norm, head and soft-capping
        are its own. A head that is not a plain linear layer (a quantised one, for example) gives its own dtype.
        """

        def inject(index: int, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            last = index == self.num_layers - 1
            return self.as_returned(index, states[:, None] if last else hidden)

        first = torch.zeros(len(states), 1, dtype=torch.long, device=self.device)
        with self.mode(inject), self._float32_head.be(True):
            return self.hf_model(input_ids=first, position_ids=first, use_cache=False).logits[:, 0].float()
