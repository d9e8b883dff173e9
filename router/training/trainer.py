"""Training all heads of a router at once, each on its layer's input along the label's path."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cluster.program.json_codec import encoded
from pathgen.errors import InputError, PathgenError
from pathgen.paths.layer_path import LayerAction

from ..data.examples import Examples, epoch_order
from ..dev.metrics import ActionMetrics, chosen_actions
from ..net.config import RouterConfig
from ..net.router import Router
from .losses import class_weights, focal_loss
from .resume import EpochReport, TrainingCheckpoint, TrainingState
from .settings import BATCH_SIZE, TrainSettings
from .tracking import Tracker
from .view import TrainingView

logger = logging.getLogger(__name__)


def new_router(config: RouterConfig, seed: int) -> Router:
    """A router whose initial weights depend only on the seed; torch's own generator does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Router(config)


def head_logits(router: Router, features: Tensor) -> Tensor:
    """[B, L, 3] logits of [B, L, W, H] features.

    On a CPU this loop is faster than one batched product of all layers' weights, which must first reorder the features
    (0.06 s against 0.08 s per step of 32 questions, 30 layers, width 128).
    """
    static_part, layers = router.static_part(), range(router.config.num_layers)
    return torch.stack([router.logits(layer, features[:, layer], static_part) for layer in layers], dim=1)


@torch.inference_mode()
def predicted_logits(router: Router, examples: Examples, batch_size: int = BATCH_SIZE) -> Tensor:
    """[N, L, 3] float32 logits on the CPU, each from its layer's input along the label's path."""
    router.eval()
    device = router.static_logits.device
    batches = torch.arange(len(examples)).split(batch_size)
    return torch.cat([head_logits(router, examples.features(rows.tolist()).to(device)) for rows in batches]).cpu()


class Trainer:
    """Trains a router's heads in place; its static logits do not change. A trainer is used once.

    The best epoch has the lowest development loss, which also decides early stopping. Macro-F1 is only shown: a few
    decisions of rare classes change it much, and it ignores how soft a target is.

    On one machine the same router, settings and data give the same weights bit for bit (on a CPU, with the same
    number of threads), interrupted or not.

    Args:
        router: with heads; see `new_router`.
        dev: development examples, on which epochs are compared.
        folder: of the router. It holds the state after each epoch, until a router is saved there. None: the state is
            not stored.

    Raises:
        InputError: a target is an action that the router may not choose.
        ValueError: a router without heads, or examples of another number of layers.
    """

    def __init__(
        self,
        router: Router,
        settings: TrainSettings,
        train: Examples,
        dev: Examples,
        *,
        folder: str | Path | None = None,
        tracker: Tracker | None = None,
        quiet: bool = False,
    ):
        if router.config.static_only:
            raise ValueError("a static router has no heads to train")
        for examples in (train, dev):
            _check_targets(router, examples)
        self.router, self.settings, self._train, self._dev = router, settings, train, dev
        self._tracker, self._quiet = tracker, quiet
        self._device = router.static_logits.device
        counts = train.targets.sum((0, 1), dtype=np.float64)
        if np.count_nonzero(counts) == 1:
            only = LayerAction(int(counts.argmax())).name
            logger.warning("every target is %s: the router can only learn to take one path", only)
        weights = class_weights(counts, settings.class_beta)
        self._class_weights = torch.tensor(weights, dtype=torch.float32, device=self._device)
        self._parameters = {name: value for name, value in router.named_parameters() if value.requires_grad}
        self._checkpoint = TrainingCheckpoint(folder, self._digest()) if folder is not None else None

    def run(self) -> tuple[EpochReport, ...]:
        """Train, or resume an interrupted training; the router then has the best epoch's weights.

        Returns:
            One report per epoch, including those before an interruption.

        Raises:
            PathgenError: the loss is not finite (the message names the epoch), or the state cannot be written.
            ArtefactError: a question's features are not finite; the message names it.
        """
        state = self._checkpoint.load() if self._checkpoint else None
        history = list(state.history) if state else []
        self._set_up(state)
        best = state.best if state else self._weights()
        with TrainingView(self.settings.epochs, len(history), quiet=self._quiet) as view:
            while len(history) < self.settings.epochs and not self._stalled(history):
                report = self._epoch(len(history) + 1)
                history.append(report)
                if best_epoch(history) == report.epoch:
                    best = self._weights()
                if self._checkpoint:
                    moments = self._moments("exp_avg"), self._moments("exp_avg_sq")
                    self._checkpoint.save(TrainingState(tuple(history), self._step, self._weights(), best, *moments))
                view.report(report)
                if self._tracker:
                    figures = {"loss": report.loss, "dev_loss": report.dev_loss, "macro_f1": report.macro_f1}
                    self._tracker.log(figures, step=report.epoch)
        self._load_weights(best)
        return tuple(history)

    def _set_up(self, state: TrainingState | None) -> None:
        """Make the optimiser and the schedule, or restore them from the state."""
        from transformers import get_cosine_schedule_with_warmup

        self._step = state.step if state else 0
        rate = self.settings.learning_rate
        group = {"params": list(self._parameters.values()), "initial_lr": rate}
        self._optimizer = torch.optim.AdamW([group], lr=rate, weight_decay=self.settings.weight_decay)
        if state:
            self._load_weights(state.weights)
            moments = {
                index: {
                    "step": torch.tensor(float(state.step)),
                    "exp_avg": state.exp_avg[name],
                    "exp_avg_sq": state.exp_avg_sq[name],
                }
                for index, name in enumerate(self._parameters)
            }
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        visits = len(epoch_order(self._train.groups, self.settings.seed, 1))
        steps = self.settings.epochs * -(-visits // self.settings.batch_size)
        # The rate is a function of the step, so the schedule has no other state.
        self._scheduler = get_cosine_schedule_with_warmup(
            self._optimizer, round(self.settings.warmup_share * steps), steps, last_epoch=self._step - 1
        )

    def _epoch(self, epoch: int) -> EpochReport:
        started = time.monotonic()
        loss = self._learn(epoch)
        dev_loss, macro_f1 = self._evaluate()
        for name, value in (("loss", loss), ("development loss", dev_loss)):
            if not math.isfinite(value):
                raise PathgenError(f"the {name} of epoch {epoch} is not finite; try a lower learning rate")
        return EpochReport(epoch, loss, dev_loss, macro_f1, time.monotonic() - started)

    def _learn(self, epoch: int) -> float:
        """Train on the questions of an epoch; return the mean loss."""
        self.router.train()
        order = epoch_order(self._train.groups, self.settings.seed, epoch)
        total = torch.zeros((), device=self._device)
        for batch in torch.from_numpy(order).split(self.settings.batch_size):
            rows = batch.tolist()
            logits = head_logits(self.router, self._train.features(rows).to(self._device))
            loss = self._losses(logits, self._train, rows).mean()
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._parameters.values(), self.settings.clip_norm)
            self._optimizer.step()
            self._scheduler.step()
            self._step += 1
            total += loss.detach() * len(rows)
        return total.item() / len(order)

    def _evaluate(self) -> tuple[float, float]:
        logits = predicted_logits(self.router, self._dev, self.settings.batch_size)
        losses = self._losses(logits.to(self._device), self._dev, list(range(len(self._dev))))
        metrics = ActionMetrics.of(chosen_actions(logits.numpy()), chosen_actions(self._dev.targets))
        return losses.mean().item(), metrics.macro_f1

    def _losses(self, logits: Tensor, examples: Examples, rows: list[int]) -> Tensor:
        """[B] mean loss over layers, times the question's weight divided by the mean weight."""
        targets = torch.from_numpy(examples.targets[rows]).to(self._device, torch.float32)
        weights = torch.tensor(examples.weights[rows] / examples.weights.mean(), dtype=torch.float32)
        losses = focal_loss(logits, targets, self._class_weights, self.settings.focal_gamma).mean(dim=1)
        return losses * weights.to(self._device)

    def _stalled(self, history: list[EpochReport]) -> bool:
        patience = self.settings.patience
        return patience is not None and bool(history) and len(history) - best_epoch(history) >= patience

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        for name, value in self._parameters.items():
            value.copy_(weights[name])

    def _moments(self, kind: str) -> dict[str, Tensor]:
        return {name: self._optimizer.state[value][kind] for name, value in self._parameters.items()}

    def _digest(self) -> str:
        """Digest of all that the result depends on: settings, the initial router, and the questions with targets."""
        ids = [[examples.dtype, list(examples.ids)] for examples in (self._train, self._dev)]
        about = [encoded(self.settings), encoded(self.router.config), *ids]
        digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
        for examples in (self._train, self._dev):
            for values in (examples.targets, examples.weights, examples.groups):
                digest.update(np.ascontiguousarray(values).tobytes())
        for value in self.router.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def best_epoch(history: Sequence[EpochReport]) -> int:
    """The epoch of the lowest development loss; the first one if several are equal."""
    return min(history, key=lambda report: report.dev_loss).epoch


def _check_targets(router: Router, examples: Examples) -> None:
    num_layers = examples.targets.shape[1]
    if num_layers != router.config.num_layers:
        raise ValueError(f"targets of {num_layers} layers for a router of {router.config.num_layers}")
    banned = ~torch.isfinite(router.allowed).cpu().numpy()
    wrong = (examples.targets[..., banned] > 0).any((1, 2))
    if wrong.any():
        first, actions = examples.ids[int(wrong.argmax())], ", ".join(router.config.actions)
        raise InputError(f"question {first} is labelled with an action that the router may not choose ({actions})")
