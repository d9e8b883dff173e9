"""Whether a wrapped model is exact along paths: against the stock model, one unpadded row at a time, no cache."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pathgen.engine.executor import Executor
from pathgen.engine.mask_probe import find_mask_form
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import Cascade, FixedPaths, LayerPolicy, next_token_gaps
from pathgen.engine.supported import find_layers
from pathgen.engine.token_rows import packed_row, plain_rows
from pathgen.paths.layer_path import LayerPath

from .tiny_config import TEXT_TOKENS

LENGTHS = (9, 4, 12)
NEW_TOKENS = 5
CLOSE = 1e-4
"""Largest gap, relative to the row's largest logit where that is above 1."""
PolicyMaker = Callable[[list[LayerPath]], LayerPolicy]
"""From the path that each row should take."""


class PlainLoop:
    """The stock model, each layer called in place as often as the path says."""

    def __init__(self, hf_model: Any):
        self.hf_model = hf_model
        self.layers = find_layers(hf_model)
        self.is_tuple: list[bool] = []
        self.known: dict[tuple[tuple[int, ...], LayerPath], Tensor] = {}
        hooks = [
            layer.register_forward_hook(lambda _, __, out: self.is_tuple.append(isinstance(out, tuple)))
            for layer in self.layers
        ]
        hf_model(input_ids=torch.tensor([[5, 9, 11]]), use_cache=False)
        for hook in hooks:
            hook.remove()

    def __call__(self, ids: Sequence[int], path: LayerPath) -> Tensor:
        """[T, V] logits; the same row along the same path runs once."""
        key = (tuple(ids), path)
        if key not in self.known:
            self.known[key] = self._run(ids, path)
        return self.known[key]

    def _run(self, ids: Sequence[int], path: LayerPath) -> Tensor:
        for index, layer in enumerate(self.layers):
            layer.forward = self._as_often(index, layer.forward, path[index])
        try:
            return self.hf_model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        finally:
            for layer in self.layers:
                del layer.forward

    def _as_often(self, index: int, stock: Any, times: int) -> Any:
        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            for _ in range(times):
                out = stock(hidden, *args, **kwargs)
                hidden = out[0] if isinstance(out, tuple) else out
            return (hidden, None) if self.is_tuple[index] else hidden

        return forward


def largest_gap(stock: Any) -> tuple[float, PathModel]:
    """The largest gap of a model against its plain loop over all that is tried, and the wrapped model.

    The stock model is copied. Greedy tokens that are not the loop's best count by how far they fall short of it.

    Raises:
        UnsupportedModelError: the model is refused.
    """
    model = PathModel(copy.deepcopy(stock))
    loop = PlainLoop(stock)
    rng = random.Random(0)
    rows = [[rng.randrange(2, TEXT_TOKENS) for _ in range(length)] for length in LENGTHS]
    paths = mixed_paths(model, len(rows))
    gaps = _followed(model, loop, rows, paths, FixedPaths)
    runs = [rows[row] for together in _groups(model, rows, decodes=False) for row in together]
    for path in paths if not model.pinned_layers else ():
        sure = [float(next_token_gaps(loop(row, path)[-1:])) for row in runs]
        order = sorted(sure) if len(sure) > 1 else [sure[0], sure[0] + 1]
        _, threshold = max((high - low, (low + high) / 2) for low, high in pairwise(order))
        taken = [path if gap >= threshold else LayerPath.full(len(path)) for gap in sure]
        cascade = Cascade(path, threshold)  # far from every row's gap; a single row falls back
        gaps += _followed(model, loop, runs, taken, lambda _, cascade=cascade: cascade)
    return max(gaps + _searched(model, loop, rows[0][:6], paths[:2])), model


def _followed(
    model: PathModel,
    loop: PlainLoop,
    rows: list[list[int]],
    paths: list[LayerPath],
    policy: PolicyMaker,
) -> list[float]:
    """Gaps of forwards and of cached decoding, where the policy should take these paths."""
    gaps = [0.0]
    for together in _groups(model, rows, decodes=False):
        for side in ("left",) if not model.restrictions.one_length else ("right",):
            ids, mask = _padded([rows[row] for row in together], side)
            logits = model.logits(ids, mask, policy=policy([paths[row] for row in together]))
            gaps += [
                _gap(got[m == 1], loop(rows[row], paths[row]))
                for got, m, row in zip(logits, mask, together, strict=True)
            ]
    for together in _groups(model, rows, decodes=True):
        gaps += _decoded(model, loop, [rows[row] for row in together], [paths[row] for row in together], policy)
    return gaps


def mixed_paths(model: PathModel, count: int) -> list[LayerPath]:
    """Awkward paths of a model: skips of the first layer, repeats of the last, several of both."""
    layers, rng = model.num_layers, random.Random(1)
    drawn = [[rng.choice((0, 1, 2)) for _ in range(layers)] for _ in range(count - 2)]
    table = [[1] * (layers - 1) + [2], [0, *[2] * (layers - 2), 1][:layers], *drawn]
    return [
        LayerPath(1 if layer in model.pinned_layers else action for layer, action in enumerate(row)) for row in table
    ]


def _groups(model: PathModel, rows: Sequence[Sequence[int]], *, decodes: bool) -> list[list[int]]:
    limits = model.restrictions
    found: dict[Any, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        past, length = limits.kind(len(row), decodes=decodes)
        if not past or limits.past_border:
            found[past, length].append(index)
    return list(found.values())


def _decoded(
    model: PathModel,
    loop: PlainLoop,
    rows: list[list[int]],
    paths: list[LayerPath],
    policy: PolicyMaker,
) -> list[float]:
    border, longest = model.restrictions.border, max(map(len, rows))
    count = NEW_TOKENS if border is None or longest > border else min(NEW_TOKENS, border - longest)
    if count < 1:
        return []
    ids, mask = _padded(rows, "left")
    made = model.generate(ids, mask, policy=policy(paths), max_new_tokens=count)[:, ids.shape[1] :]
    gaps = []
    for row, path, new in zip(rows, paths, made, strict=True):
        best = loop([*row, *new.tolist()], path)[len(row) - 1 : -1]
        short = best.amax(-1) - best.gather(1, new[:, None])[:, 0]
        gaps.append(float(short.max() / best.abs().max().clamp(min=1)))
    return gaps


def _searched(model: PathModel, loop: PlainLoop, prompt: list[int], paths: list[LayerPath]) -> list[float]:
    choices = [[7, 11], [13]] if model.restrictions.border is None else [[7, 11], [13, 9]]
    limit = model.restrictions.border
    prompt = prompt if limit is None else prompt[: limit - 2]
    want = {
        path: [
            loop([*prompt, *choice], path)[len(prompt) - 1 : -1].log_softmax(-1)[range(len(choice)), choice]
            for choice in choices
        ]
        for path in paths
    }
    plain = [(row, path) for path in paths for row in plain_rows("q", prompt, choices)]
    got = Executor(model, None).token_logprobs(plain)
    gaps = [
        _gap(torch.tensor(one), want[path][place % 2])
        for place, (one, (_, path)) in enumerate(zip(got, plain, strict=True))
    ]
    single = Executor(model, None).token_logprobs([(plain[0][0], path) for path in paths])
    gaps += [_gap(torch.tensor(one), want[path][0]) for one, path in zip(single, paths, strict=True)]
    form = find_mask_form(model)
    if form is not None:
        packed = [(packed_row("q", prompt, choices), path) for path in paths]
        got = Executor(model, form).token_logprobs(packed)
        gaps += [_gap(torch.tensor(one), torch.cat(want[path])) for one, (_, path) in zip(got, packed, strict=True)]
    return gaps


def _gap(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max().clamp(min=1))


def _padded(rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    gaps = [[0] * (width - len(row)) for row in rows]
    left = side == "left"
    ids = [gap + list(row) if left else list(row) + gap for row, gap in zip(rows, gaps, strict=True)]
    ones = [[1] * len(row) for row in rows]
    mask = [gap + row if left else row + gap for row, gap in zip(ones, gaps, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


def shaken(hf_model: nn.Module) -> Any:
    """The model in float32, its weights spread so that layers matter and paths differ."""
    torch.manual_seed(0)
    for parameter in hf_model.float().eval().requires_grad_(False).parameters():
        if parameter.is_floating_point():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.dim() == 1 else 0.2))
    settings: Any = getattr(hf_model, "generation_config", None)
    if settings is None:  # it does not generate
        return hf_model
    settings.eos_token_id, settings.pad_token_id, settings.bos_token_id = None, 0, None
    settings.forced_eos_token_id = settings.forced_bos_token_id = None
    return hf_model
