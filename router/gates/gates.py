"""Gates on a frozen model's layers, trained on the task's loss instead of searched paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pathgen.engine.path_model import PathModel
from pathgen.errors import PathgenError
from pathgen.evaluation.evaluator import Prepared

from ..net.router import LowRankGate
from .forward import GatedModel
from .settings import GateSettings


@dataclass(frozen=True, slots=True)
class GateEpoch:
    """Figures of one pass over the questions, counted from 1; each question's loss is measured at its own step.

    `loss` is the mean over questions, in nats. `mean_gate` is the mean of g₀ at the end.
    """

    epoch: int
    loss: float
    mean_gate: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainedGates:
    """The result of training.

    Attributes:
        gates: [L], g₀.
        heads: state of L `LowRankGate`s in a module list, on the CPU; None if rank is 0.
    """

    gates: NDArray[np.float32]
    heads: dict[str, Tensor] | None
    settings: GateSettings
    history: tuple[GateEpoch, ...]


class SoftGates(nn.Module):
    """g = g₀ + u·Vφ(x) per layer, clamped to the allowed range."""

    def __init__(self, num_layers: int, hidden_size: int, settings: GateSettings):
        super().__init__()
        self.settings = settings
        self.static = nn.Parameter(torch.ones(num_layers))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            count = num_layers if settings.rank else 0
            self.heads = nn.ModuleList(LowRankGate(hidden_size, settings.rank) for _ in range(count))

    def forward(self, layer: int, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """[R] gates of this layer, from its input [R, T, H]."""
        gate = self.static[layer].expand(len(hidden))
        if self.heads:
            head = self.heads[layer]
            assert isinstance(head, LowRankGate)
            gate = gate + head.shift(self.settings.pooling.pool(hidden, prompt_mask).to(gate))
        return gate.clamp(0.0, self.settings.max_gate)


def train_gates(
    model: PathModel,
    questions: Sequence[Prepared],
    settings: GateSettings,
    on_epoch: Callable[[GateEpoch], object] = lambda epoch: None,
) -> TrainedGates:
    """Train gates through the frozen model, starting at g = 1, on the loss of questions of one or more tasks.

    Raises:
        ValueError: there are no questions.
        PathgenError: a question's loss is NaN or infinite.
    """
    if not questions:
        raise ValueError("gates need at least one question to train on")
    gated = GatedModel(model)
    gates = SoftGates(model.num_layers, model.config.hidden_size, settings).to(model.device)
    groups = [{"params": [gates.static], "lr": settings.learning_rate, "weight_decay": 0.0}]
    if settings.rank:
        map_rates = {"lr": settings.map_learning_rate, "weight_decay": settings.map_decay}
        groups.append({"params": list(gates.heads.parameters()), **map_rates})
    optimizer = torch.optim.AdamW(groups)
    steps = settings.epochs * -(-len(questions) // settings.batch_questions)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(settings.seed)
    history: list[GateEpoch] = []
    for epoch in range(1, settings.epochs + 1):
        order = rng.permutation(len(questions))
        losses: list[float] = []
        for start in range(0, len(order), settings.batch_questions):
            batch = [questions[index] for index in order[start : start + settings.batch_questions]]
            optimizer.zero_grad()
            losses += _accumulate(gated, gates, batch)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                gates.static.clamp_(0.0, settings.max_gate)
        loss = math.fsum(losses) / len(losses)
        history.append(GateEpoch(epoch, loss, float(gates.static.detach().mean())))
        on_epoch(history[-1])
    heads = {name: value.detach().cpu() for name, value in gates.heads.state_dict().items()}
    return TrainedGates(gates.static.detach().cpu().numpy().copy(), heads or None, settings, tuple(history))


def _accumulate(gated: GatedModel, gates: SoftGates, questions: list[Prepared]) -> list[float]:
    """Add one step's gradients to the gates; return each question's loss."""
    settings = gates.settings
    (settings.pull * (gates.static - 1).square().sum()).backward()
    found: list[float] = []
    for indices in gated.batches(questions):
        batch = [questions[index] for index in indices]
        used: list[Tensor] = []

        def gate(layer: int, hidden: Tensor, prompt_mask: Tensor, used: list[Tensor] = used) -> Tensor:
            used.append(gates(layer, hidden, prompt_mask))
            return used[-1]

        scores = gated.scores(batch, gate)
        losses = [_loss(prepared, own) for prepared, own in zip(batch, scores, strict=True)]
        depth = torch.stack(used).clamp(max=1.0).mean().to(losses[0].device)
        total = torch.stack(losses).sum() + settings.compute_penalty * len(batch) * depth
        (total / len(questions)).backward()
        for prepared, loss in zip(batch, losses, strict=True):
            if not math.isfinite(value := loss.item()):
                raise PathgenError(
                    f"question {prepared.question.id}: its loss under the gates is {value}; "
                    "leave the question out, or train in float32 with a lower learning rate"
                )
            found.append(value)
    return found


def _loss(prepared: Prepared, scores: Tensor) -> Tensor:
    """Loss of [C] scores in nats: cross-entropy over the choices, or the reference's mean token NLL."""
    gold, choices = prepared.question.gold, prepared.question.choices or ()
    if gold is None:
        return -scores[0] / len(prepared.rows[0].targets)
    rivals = [index for index, text in enumerate(choices) if text != choices[gold]]  # not gold's text a second time
    return scores[[gold, *rivals]].logsumexp(0) - scores[gold]
