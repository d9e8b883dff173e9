"""The maps that run in place of skipped layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm

from .info import BridgesInfo

EPSILON = 1e-5
"""Added to the mean square of a state before its root."""


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """h' = h + up·down·rms(h) + bias: an affine map of a token's normalised state, of rank r.

    rms(h) = h / sqrt(mean(h²) + EPSILON), without weights. Ghosted Layers (arXiv 2605.15491) fit such an operator
    without the norm, ReplaceMe (arXiv 2505.02819) one for a run of layers.

    Attributes:
        down: [r, H].
        up: [H, r]; None if `down` is the whole map, [H, H].
        bias: [H].
    """

    down: Tensor
    up: Tensor | None
    bias: Tensor

    @property
    def rank(self) -> int:
        """Rank of the map; the width of a state if it is whole."""
        return self.down.shape[0]

    @property
    def parameters(self) -> int:
        """Number of stored values."""
        return sum(part.numel() for part in (self.down, self.up, self.bias) if part is not None)

    def apply(self, hidden: Tensor) -> Tensor:
        """[..., H] states after the map, in their own dtype; the norm is computed in float32."""
        normed = normalised(hidden).to(self.down.dtype)
        change = linear(normed, self.down, None if self.up is not None else self.bias)
        if self.up is not None:
            change = linear(change, self.up, self.bias)
        return hidden + change.to(hidden.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> Bridge:
        """The same map on a device, in a dtype; itself if it is there already."""
        if (self.bias.device, self.bias.dtype) == (device, dtype):
            return self
        up = None if self.up is None else self.up.to(device, dtype)
        return replace(self, down=self.down.to(device, dtype), up=up, bias=self.bias.to(device, dtype))


@dataclass(frozen=True, slots=True, eq=False)
class Bridges:
    """One bridge per layer of a model.

    Attributes:
        maps: [L] of them, first layer first.
        info: of the folder that they were read from; None if they come from none.
    """

    maps: tuple[Bridge, ...]
    info: BridgesInfo | None = None

    @property
    def digest(self) -> str | None:
        """Names them: a hash of the file that they were read from."""
        return None if self.info is None else self.info.digest

    @property
    def num_layers(self) -> int:
        """The model's number of layers, L."""
        return len(self.maps)

    @property
    def width(self) -> int:
        """Values of a state, H."""
        return len(self.maps[0].bias)

    @property
    def parameters(self) -> int:
        """Number of stored values of all maps."""
        return sum(bridge.parameters for bridge in self.maps)

    def placed(self, devices: Sequence[torch.device], dtype: torch.dtype) -> Bridges:
        """Each map on its layer's device, in the model's dtype; these bridges themselves if all are there already."""
        maps = tuple(bridge.to(device, dtype) for bridge, device in zip(self.maps, devices, strict=True))
        same = all(placed is bridge for placed, bridge in zip(maps, self.maps, strict=True))
        return self if same else replace(self, maps=maps)


def normalised(hidden: Tensor) -> Tensor:
    """[..., H] float32 states divided by their root mean square."""
    return rms_norm(hidden.float(), hidden.shape[-1:], eps=EPSILON)
