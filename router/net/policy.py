"""A router as a layer policy: it decides the model's path on each prompt."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from pathgen.engine.policies import Cascade
from pathgen.paths.layer_path import LayerAction, LayerPath

from .config import TIE_ORDER
from .router import Router


def policy_of(router: Router, bias: float = 0.0, pinned: Collection[int] = ()) -> RouterPolicy | Cascade:
    """What the model asks in deployment; arguments as `RouterPolicy`."""
    policy, gap = RouterPolicy(router, bias, pinned), router.config.fall_back_below
    if gap is None:
        return policy
    assert policy.path is not None  # a cascade has no head
    return Cascade(policy.path, gap)


class RouterPolicy:
    """At each layer, each row takes the action of the highest logit, computed from the layer's input.

    Args:
        router: on the model's device.
        bias: in addition to the router's own; above 0 is shallower than trained.
        pinned: layers of the model that always execute once.
    """

    def __init__(self, router: Router, bias: float = 0.0, pinned: Collection[int] = ()):
        self.router = router.eval()
        self._pinned = frozenset(pinned)
        self._order = torch.tensor(TIE_ORDER, device=router.static_logits.device)
        self._weights: tuple[Tensor, Tensor] | None = None
        with torch.inference_mode():
            self._static_part = router.static_part(router.config.bias + bias)
            # On the CPU: a path known in advance is never read back from a device.
            self._path = self._chosen(self._static_part).cpu() if not router.config.reads_states else None
            if self._path is not None:
                self._path[sorted(self._pinned)] = int(LayerAction.EXECUTE)

    @property
    def path(self) -> LayerPath | None:
        """The path of every prompt, or the one that a cascade begins with; None if heads read the prompt."""
        return None if self._path is None else LayerPath(self._path.tolist())

    @torch.inference_mode()
    def actions(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[B] actions, decided on the device; ties go to EXECUTE, then SKIP."""
        if self._path is not None:
            return self._path[layer].expand(len(hidden))
        if layer == 0:
            self._weights = None  # a new prompt, even if its mask is the same tensor with other content
        if layer in self._pinned:
            return torch.full((len(hidden),), int(LayerAction.EXECUTE))
        pooled = torch.bmm(self._window_weights(prompt_mask, hidden).to(hidden.device), hidden)
        return self._chosen(self.router.logits(layer, pooled.to(self._order.device), self._static_part))

    def _chosen(self, logits: Tensor) -> Tensor:
        """[N] actions of [N, 3] logits."""
        return self._order[logits[:, self._order].argmax(-1)]

    def _window_weights(self, prompt_mask: Tensor, hidden: Tensor) -> Tensor:
        """The pooling's weights, computed once per prompt instead of once per layer."""
        kept = self._weights  # read once: another thread may set that of its own prompt
        if kept is None or kept[0] is not prompt_mask or kept[1].dtype != hidden.dtype:
            kept = self._weights = (prompt_mask, self.router.config.pooling.weights(prompt_mask).to(hidden.dtype))
        return kept[1]
