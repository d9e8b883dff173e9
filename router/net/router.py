"""The router's modules: logits of the three actions per layer, from a static part and a head that reads the prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pathgen.bridges.maps import Bridges
from pathgen.paths.layer_path import LayerPath

from .config import RouterConfig, allowed_actions

NUM_ACTIONS = 3


class LayerRouter(nn.Module):
    """Linear – GELU – Linear on each window's mean, logits averaged over windows (Dr.LLM, section 3.3)."""

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, width)
        self.up = nn.Linear(width, NUM_ACTIONS)
        for linear in (self.down, self.up):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, 3] logits of [B, W, H] window means; the mean over windows comes before `up`, which is linear."""
        return self.up(nn.functional.gelu(self.down(pooled)).mean(dim=1))


class LowRankGate(nn.Module):
    """A gate's shift as a low-rank function of the prompt: g = g₀ + u·Vφ(x), as logits (0, 2g−1, 4g−4).

    Up to a common term, these logits are −(g − a)² for a = 0, 1, 2, so their argmax is g rounded to an action. The
    static part holds the logits of g₀, and this module adds (0, 2δ, 4δ).
    """

    def __init__(self, hidden_size: int, rank: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, rank, bias=False)
        self.up = nn.Linear(rank, 1, bias=False)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)

    def shift(self, pooled: Tensor) -> Tensor:
        """[B] shifts of the gate from [B, W, H] window means, whose mean is scaled to unit root mean square."""
        scaled = nn.functional.rms_norm(pooled.mean(dim=1), pooled.shape[-1:])
        return self.up(self.down(scaled)).squeeze(-1)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, 3] logits of [B, W, H] window means, to add to those of g₀."""
        return self.shift(pooled)[:, None] * torch.arange(0, 2 * NUM_ACTIONS, 2, device=pooled.device)


def gate_logits(gates: Tensor) -> Tensor:
    """[L, 3] static logits that round the gates [L]: −(g − a)² for a = 0, 1, 2."""
    return -((gates[:, None] - torch.arange(NUM_ACTIONS, device=gates.device)) ** 2)


def path_logits(path: LayerPath) -> Tensor:
    """[L, 3] static logits of a path: 1 for its action at each layer, 0 for the others."""
    return nn.functional.one_hot(torch.tensor(path), NUM_ACTIONS).float()


class Router(nn.Module):
    """A static part and one head per layer.

    Attributes:
        static_logits: [L, 3], zero if only the heads decide.
        heads: one per layer; none if `head` is `none`.
        allowed: [3] 0 for actions it may choose, −inf for others.
        bridges: run where it skips; None without.
    """

    static_logits: Tensor
    allowed: Tensor

    def __init__(self, config: RouterConfig):
        super().__init__()
        self.config = config
        self.bridges: Bridges | None = None
        self.static_logits = nn.Parameter(torch.zeros(config.num_layers, NUM_ACTIONS), requires_grad=False)
        self.heads = nn.ModuleList()
        if config.head != "none":
            head = {"bottleneck": LayerRouter, "low_rank": LowRankGate}[config.head]
            self.heads.extend(head(config.hidden_size, config.width) for _ in range(config.num_layers))
        allowed = torch.full((NUM_ACTIONS,), float("-inf"))
        allowed[list(allowed_actions(config.actions))] = 0.0
        self.register_buffer("allowed", allowed, persistent=False)

    def static_part(self, bias: float = 0.0) -> Tensor:
        """[L, 3] logits that do not depend on the prompt; −inf for actions that are not allowed."""
        shift = torch.tensor([bias, 0.0, -bias], device=self.static_logits.device)
        return self.static_logits + self.allowed + shift

    def logits(self, layer: int, pooled: Tensor, static_part: Tensor | None = None) -> Tensor:
        """[B, 3] float32 logits of a layer's actions from its pooled input [B, W, H].

        `static_part` is the result [L, 3] of that method; it is computed here if None.
        """
        fixed = (self.static_part() if static_part is None else static_part)[layer]
        if not self.config.reads_states:
            return fixed.expand(len(pooled), NUM_ACTIONS)
        return torch.add(fixed, self.heads[layer](pooled.to(self.static_logits.dtype)), alpha=self.config.scale)

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())
