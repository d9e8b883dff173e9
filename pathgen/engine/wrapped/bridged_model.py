"""A wrapped model with maps that run in place of its layers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from torch import Tensor

from ...bridges.maps import Bridges
from ...hooks.here import Here
from .wrapped_model import WrappedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BridgedModel(WrappedModel):
    """Its bridges are those of the calling thread's innermost block, else those that hold from now on, else none."""

    def __init__(self, hf_model: PreTrainedModel):
        super().__init__(hf_model)
        self._bridges: Bridges | None = None
        self._bridges_here = Here[tuple[Bridges | None]]()

    @property
    def bridges(self) -> Bridges | None:
        """What runs wherever a path skips a layer; None: a skipped layer leaves the states as they are."""
        here = self._bridges_here.get()
        return self._bridges if here is None else here[0]

    def bridged(self, bridges: Bridges | None) -> AbstractContextManager[None]:
        """Within the block, these bridges run where a path of this thread skips; None: none.

        Raises:
            ValueError: bridges of another number of layers or width.
        """
        return self._bridges_here.be((self.placed(bridges),))

    def use_bridges(self, bridges: Bridges | None) -> None:
        """From now on, these bridges run where a path skips; arguments and errors as `bridged`."""
        self._bridges = self.placed(bridges)

    def placed(self, bridges: Bridges | None) -> Bridges | None:
        """Bridges on the devices of their layers, in the model's dtype; arguments and errors as `bridged`."""
        if bridges is None:
            return None
        layers, width = self.num_layers, self.config.hidden_size
        if (bridges.num_layers, bridges.width) != (layers, width):
            raise ValueError(
                f"bridges of {bridges.num_layers} layers of width {bridges.width}, a model of {layers} of {width}"
            )
        devices = [next(layer.parameters()).device for layer in self.layers]
        return bridges.placed(devices, self.hf_model.dtype)

    def run_bridge(self, index: int, hidden: Tensor) -> Tensor:
        """The layer's bridge, on its device: [..., H] in, [..., H] out."""
        assert self.bridges is not None
        bridge = self.bridges.maps[index]
        return bridge.apply(hidden.to(bridge.bias.device))
