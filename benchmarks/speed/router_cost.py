"""What a router costs: its parameters beside the model's, and its time beside the prefill's.

    python -m benchmarks.speed.router_cost --tokens 256 --repeats 20

The same prompt is run in turns along fixed full paths and with a router that reads every layer and answers EXECUTE, so
the model does the same work in both. Parameters are also told for the shapes of a 3B and an 8B model.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.lab.measurement import machine, median_ratio, rotated, run_script
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.models.facts import fingerprint
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerAction, LayerPath
from router.net.config import RouterConfig
from router.net.policy import RouterPolicy
from router.net.router import Router

SHAPES = {"3B": (28, 3072, 3.2e9), "8B": (32, 4096, 8.0e9)}
"""Layers, hidden size and parameters of Llama 3.2 3B and Llama 3.1 8B."""


def fresh_router(num_layers: int, hidden_size: int, base: str = "", digest: str = "") -> Router:
    """An untrained router of the default width that answers EXECUTE."""
    router = Router(RouterConfig(base, digest, num_layers, hidden_size, ("arc",), "imitate"))
    router.static_logits.data[:, LayerAction.EXECUTE] = 1e6
    return router


def main(
    model: Model = "smollm2-135m",
    tokens: Annotated[int, typer.Option(help="Length of the prompt.")] = 256,
    batch: Annotated[int, typer.Option(help="Prompts at a time.")] = 1,
    repeats: Annotated[int, typer.Option(help="Turns of each.")] = 20,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the prompt.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    path_model = PathModel.from_pretrained(model)
    config = path_model.config
    layers = path_model.num_layers
    router = fresh_router(layers, config.hidden_size, model, fingerprint(resolve_model(model)))
    ids = torch.randint(100, config.vocab_size, (batch, tokens))
    rivals = {
        "fixed": lambda: FixedPaths([LayerPath.full(layers)] * batch),
        "routed": lambda: RouterPolicy(router),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeats + 1):  # the first turn warms up
        for name in rotated(list(rivals), turn):
            policy = rivals[name]()
            started = time.perf_counter()
            path_model.states(ids, policy=policy)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    base_parameters = sum(parameter.numel() for parameter in path_model.hf_model.parameters())
    shapes = {model: (layers, config.hidden_size, base_parameters), **SHAPES}
    print_json(
        {
            "benchmark": "router_cost",
            "tokens": tokens,
            "batch": batch,
            "repeats": repeats,
            "seed": seed,
            "routed_to_fixed": median_ratio(seconds["routed"], seconds["fixed"], seed),
            "prefill_seconds": float(np.median(seconds["fixed"])),
            "parameters": {
                name: {
                    "router": (count := fresh_router(depth, hidden).num_parameters),
                    "share": count / base,
                }
                for name, (depth, hidden, base) in shapes.items()
            },
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
