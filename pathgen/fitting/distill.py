"""The bridges of one path trained on: by gradient, on the divergence from full depth. The model itself stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from cluster.program.progress import ProgressView

from ..bridges.info import Distillation
from ..bridges.maps import Bridge
from ..engine.logprobs import divergence
from ..engine.path_model import PathModel
from ..engine.wrapped.wrapped_model import LayerCalls
from ..evaluation.batching import row_batches
from ..paths.layer_path import LayerAction, LayerPath
from .states import batch_inputs
from .text import Piece, Texts

STEP_TOKENS = 512
"""Tokens of one step, padding included."""
LOSS_TOKENS = 256
"""Most of a step's tokens whose distributions are compared, drawn at random: each takes a row over the vocabulary."""
CHECK_TOKENS = 2048
"""Held-out tokens that a check runs, about."""
CHECK_EVERY = 25
PATIENCE = 4
"""So many checks in a row without a gain end the training."""
WARM_UP = 10
"""Steps in which the learning rate rises; then it falls to 0 along a cosine."""
LEARNING_RATE = 2e-4
"""At 1e-3 the first ten steps did harm on a model of width 576."""
LARGEST_GRADIENT = 1.0
"""A step's gradient is scaled down to this norm."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Texts at full depth: what the path needs of them, and what it is compared with.

    Attributes:
        before: [B, T, H] that reaches the first layer that the path skips or repeats.
        after: [n, H] that the last layer returns, at the tokens that are text.
        tokens: [B, T] which tokens are text.
        calls: what each layer is called with.
    """

    before: Tensor
    after: Tensor
    tokens: Tensor
    calls: LayerCalls


def distill(
    model: PathModel,
    texts: Texts,
    path: LayerPath,
    bridges: dict[int, Bridge],
    steps: int,
    seed: int,
    *,
    quiet: bool = True,
) -> tuple[dict[int, Bridge], Distillation]:
    """Train the bridges of a path's skipped layers on mean KL(full ‖ path) over the tokens of texts, with AdamW.

    The maps with the least divergence on held-out texts are returned: those that were given, if no check is better. The
    states of all tokens are held: two of [H] each per token.

    Args:
        model: the frozen model.
        texts: to train on, and held out to choose the maps by.
        path: that skips the layers of `bridges`.
        bridges: by layer; left as they are.
        steps: at most so many, of STEP_TOKENS each.
        seed: of the order of the texts, and of the tokens compared.
        quiet: show no progress.
    """
    train = [_full_depth(model, pieces, path) for pieces in _batches(model, texts.fit)]
    check = [_full_depth(model, pieces, path) for pieces in _batches(model, _first(texts.held_out, CHECK_TOKENS))]
    trained = {layer: _trainable(model, layer, bridge) for layer, bridge in bridges.items()}
    values = [part for bridge in trained.values() for part in (bridge.down, bridge.up, bridge.bias) if part is not None]
    optimizer = torch.optim.AdamW(values, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    generator = torch.Generator().manual_seed(seed)
    best, best_step = dict(bridges), 0
    start = least = last = _mean_divergence(model, check, path, best)
    order: list[int] = []
    since_best = 0
    with ProgressView("distilling", steps, quiet=quiet) as view:
        for step in range(1, steps + 1):
            order = order or torch.randperm(len(train), generator=generator).tolist()
            batch = train[order.pop()]
            chosen = torch.randperm(len(batch.after), generator=generator)[:LOSS_TOKENS]
            optimizer.zero_grad()
            found = _along(model, batch, path, trained)
            _token_divergences(model, batch.after[chosen], found[chosen]).mean().backward()
            torch.nn.utils.clip_grad_norm_(values, LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            if step % CHECK_EVERY == 0 or step == steps:
                last = _mean_divergence(model, check, path, trained)
                since_best += 1
                if last < least:
                    best = {layer: _each(bridge, _stored) for layer, bridge in trained.items()}
                    least, best_step, since_best = last, step, 0
            speed = f"{view.rate(step):.2f} steps/s  ETA {view.eta(step)}"
            view.show(step, f"{speed}  divergence {start:.3f}, now {last:.3f} nats")
            if since_best == PATIENCE:
                break
    return best, Distillation(steps=best_step, learning_rate=LEARNING_RATE, before=start, after=least)


def _batches(model: PathModel, pieces: Sequence[Piece]) -> list[list[Piece]]:
    lengths = [len(piece) for piece in pieces]
    return [[pieces[i] for i in batch] for batch in row_batches(lengths, STEP_TOKENS, model.restrictions)]


def _first(pieces: Sequence[Piece], tokens: int) -> list[Piece]:
    """The first pieces, until they have so many tokens."""
    found: list[Piece] = []
    for piece in pieces:
        if sum(map(len, found)) >= tokens:
            break
        found.append(piece)
    return found


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate in a step, from 0 on."""
    return min(1.0, (step + 1) / WARM_UP) * (1 + cos(pi * step / steps)) / 2


def _each(bridge: Bridge, change: Callable[[Tensor], Tensor]) -> Bridge:
    """The bridge with all of its values changed."""
    up = None if bridge.up is None else change(bridge.up)
    return Bridge(change(bridge.down), up, change(bridge.bias))


def _trainable(model: PathModel, layer: int, bridge: Bridge) -> Bridge:
    """A copy on its layer's device whose values take gradients; float32, whatever the model's dtype is."""
    device = next(model.layers[layer].parameters()).device
    return _each(bridge, lambda part: part.detach().to(device, torch.float32, copy=True).requires_grad_())


def _stored(part: Tensor) -> Tensor:
    return part.detach().to("cpu", copy=True)


def _first_edit(path: LayerPath) -> int:
    return next(layer for layer, action in enumerate(path) if action != LayerAction.EXECUTE)


@torch.no_grad()
def _full_depth(model: PathModel, pieces: Sequence[Piece], path: LayerPath) -> _Batch:
    inputs, tokens = batch_inputs(model, pieces)
    hidden, calls = model.capture(**inputs)
    first = _first_edit(path)
    before = hidden
    for layer in range(model.num_layers):
        if layer == first:
            before = hidden
        hidden = model.run_layer(layer, hidden, *calls[layer])
    return _Batch(before, hidden[tokens.to(hidden.device)], tokens, calls)


def _along(model: PathModel, batch: _Batch, path: LayerPath, bridges: dict[int, Bridge]) -> Tensor:
    """[n, H] that the last layer returns along the path, at the tokens that are text."""
    hidden = batch.before
    for layer in range(_first_edit(path), model.num_layers):
        if path[layer] == LayerAction.SKIP:
            bridge = bridges[layer].to(hidden.device, model.hf_model.dtype)
            hidden = bridge.apply(hidden)
        for _ in range(path[layer]):
            hidden = model.run_layer(layer, hidden, *batch.calls[layer])
    return hidden[batch.tokens.to(hidden.device)]


def _token_divergences(model: PathModel, full: Tensor, found: Tensor) -> Tensor:
    """[n] KL(full ‖ path) in nats, from [n, H] states that the last layer returned."""
    with torch.no_grad():
        base = model.head(full).log_softmax(-1)
    return divergence(base, model.head(found).log_softmax(-1))


@torch.no_grad()
def _mean_divergence(model: PathModel, batches: Sequence[_Batch], path: LayerPath, bridges: dict[int, Bridge]) -> float:
    """Mean KL(full ‖ path) over all tokens, in nats."""
    parts = []
    for batch in batches:
        found = _along(model, batch, path, bridges)
        for full, along in zip(batch.after.split(LOSS_TOKENS), found.split(LOSS_TOKENS), strict=True):
            parts.append(_token_divergences(model, full, along))
    return float(torch.cat(parts).double().mean())
