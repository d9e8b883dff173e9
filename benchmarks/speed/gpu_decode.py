"""How fast a made model decodes along paths beside plain `generate`, and what a router adds to a prefill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.lab.accelerator import synchronise
from benchmarks.lab.measurement import median_ratio, rotated
from benchmarks.speed.decode_speed import Generate, along, shallow_paths, timed, untouched
from benchmarks.speed.made_models import FIRST_FREE_TOKEN, MadeModel
from benchmarks.speed.router_cost import fresh_router
from pathgen.engine.policies import FixedPaths, LayerPolicy, RecordedPolicy
from pathgen.paths.layer_path import LayerPath
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.router import Router

DECODES = {"full": ((1, 8, 32), 64), "tiny": ((1, 4), 8)}
"""Batches and new tokens of what is decoded, by set of shapes."""
PROMPT_TOKENS = 128
SHALLOW = 0.8
"""Depth of the shallow paths over that of the full one: 24 of 30 layers, say."""
ROUTED_BATCH = 8
LEAST_TURNS, MOST_TURNS = 2, 8
MOST_PREFILLS = 30

Timings = dict[str, list[float]]
"""[turns] seconds of each rival."""


def prompts(made: MadeModel, batch: int, seed: int) -> torch.Tensor:
    """[batch, PROMPT_TOKENS] random tokens on the device."""
    drawn = np.random.default_rng(seed).integers(
        FIRST_FREE_TOKEN, made.path_model.config.vocab_size, (batch, PROMPT_TOKENS)
    )
    return torch.from_numpy(drawn).to(made.device)


def take_turns(rivals: Mapping[str, Callable[[], float]], seconds: float, most: int) -> Timings:
    """What each rival gives, in turns until the time is over; the first turn warms up."""
    found: Timings = {name: [] for name in rivals}
    end = time.perf_counter() + seconds
    for turn in range(most + 1):
        for name in rotated(list(rivals), turn):
            took = rivals[name]()
            if turn:
                found[name].append(took)
        if turn >= LEAST_TURNS and time.perf_counter() > end:
            break
    return found


def decode_section(made: MadeModel, shapes: str, seed: int, seconds: float) -> dict[str, Any]:
    """Tokens per second by batch, and their ratios to those of plain `generate`."""
    batches, tokens = DECODES[shapes]
    layers = made.path_model.num_layers
    depth = round(SHALLOW * layers)
    shares = np.sqrt(batches)  # larger batches take longer
    found = {
        f"batch {batch}": _decode(made, batch, depth, tokens, seed, seconds * float(share / shares.sum()))
        for batch, share in zip(batches, shares, strict=True)
    }
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": tokens,
        "depth": [depth, layers],
        "gain_expected_from_depth": 1 / made.depth_share(depth),
        **found,
    }


def _decode(made: MadeModel, batch: int, depth: int, tokens: int, seed: int, seconds: float) -> dict[str, Any]:
    """One batch size. A rate is that of decoding alone: a whole generation less one that ends after its first token."""
    model, ids = made.path_model, prompts(made, batch, seed)
    different = min(batch, math.comb(model.num_layers, depth))
    drawn = shallow_paths(model.num_layers, depth, different, np.random.default_rng(seed))
    ways: dict[str, Generate] = {
        "plain": untouched(made.plain, ids),
        "full": along(model, ids, [LayerPath.full(model.num_layers)] * batch),
        "shallow": along(model, ids, drawn[:1] * batch),
    }
    if different > 1:
        ways["mixed"] = along(model, ids, [drawn[row % different] for row in range(batch)])

    def decoding_s(generate: Generate) -> float:
        first, whole = (timed(generate, new, made.device) for new in (1, tokens))
        return whole - first

    rivals = {name: lambda generate=generate: decoding_s(generate) for name, generate in ways.items()}
    times = take_turns(rivals, seconds, MOST_TURNS)
    return {
        "turns": len(times["plain"]),
        "tokens_per_second": {
            name: batch * (tokens - 1) / float(np.median(seconds)) for name, seconds in times.items()
        },
        "rate_over_plain": {
            name: median_ratio(times["plain"], seconds, seed) for name, seconds in times.items() if name != "plain"
        },
        "rate_over_full": {
            name: median_ratio(times["full"], times[name], seed) for name in ("shallow", "mixed") if name in times
        },
    }


def router_section(made: MadeModel, seed: int, seconds: float) -> dict[str, Any]:
    """Prefill with a router of the default architecture over the same decisions known in advance."""
    model = made.path_model
    torch.manual_seed(seed)
    layers, width = model.num_layers, model.config.hidden_size
    routers = {
        "full": fresh_router(layers, width),
        "mixed": Router(RouterConfig("", "", layers, width, ("arc",), "imitate")),
    }
    return {
        "batch": ROUTED_BATCH,
        "prompt_tokens": PROMPT_TOKENS,
        "router_parameters": routers["mixed"].num_parameters,
        **{name: _routed(made, router, seed, seconds / 2) for name, router in routers.items()},
    }


def _routed(made: MadeModel, router: Router, seed: int, seconds: float) -> dict[str, Any]:
    """A router's prefill beside one along the paths that it decides."""
    model, ids, policy = made.path_model, prompts(made, ROUTED_BATCH, seed), RouterPolicy(router.to(made.device))

    def decided() -> list[LayerPath]:
        recorded = RecordedPolicy(policy)
        model.states(ids, policy=recorded)
        return recorded.paths()

    def prefill_s(policy: LayerPolicy) -> float:
        started = time.perf_counter()
        model.states(ids, policy=policy)
        synchronise(made.device)
        return time.perf_counter() - started

    paths = decided()
    fixed = FixedPaths(paths)
    times = take_turns({"fixed": lambda: prefill_s(fixed), "routed": lambda: prefill_s(policy)}, seconds, MOST_PREFILLS)
    return {
        "turns": len(times["fixed"]),
        "routed_over_fixed": median_ratio(times["routed"], times["fixed"], seed),
        "prefill_seconds": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "mean_depth": float(np.mean([path.depth for path in paths])),
        "different_paths": len(set(paths)),
        "same_decisions_again": decided() == paths,
    }
