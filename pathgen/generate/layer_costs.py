"""Cost models of a given model: FLOPs from its weights, latency by measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster import ClusterError
from cluster.program.causes import cause_of

from ..actors.model_spec import ModelSpec
from ..bridges.info import BridgesInfo
from ..errors import InputError
from ..models.facts import layer_parameters
from ..paths.cost import CostModel

LATENCY_TOKENS = 64
LATENCY_REPEATS = 9


def flops_cost(folder: Path, num_layers: int, bridges: BridgesInfo | None = None) -> CostModel:
    """Weights in proportion to the parameters that each layer, or bridge, uses per token (two FLOPs each).

    Args:
        folder: of the model.
        num_layers: of the model.
        bridges: that run where a path skips; None: nothing runs there.

    Raises:
        InputError: the checkpoint's tensor names do not show which layer a tensor belongs to.
    """
    parameters = layer_parameters(folder, num_layers)
    if not all(parameters):
        raise InputError(f"{folder}: tensor names do not tell each layer's weights; use --cost layers or latency")
    return CostModel.from_measures("flops", parameters, [] if bridges is None else [bridges.parameters] * num_layers)


def latency_cost(model: ModelSpec, out: str, resources: Mapping[str, float], timeout_s: float) -> CostModel:
    """Measure each layer, and each bridge, in one Ray task with an actor's resources.

    `timeout_s` includes the wait for a place.

    Raises:
        ClusterError: the measurement failed, or no place was free in time.
    """
    import ray

    remote = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=0)
    try:
        measured = ray.get(remote(layer_milliseconds).remote(model, out), timeout=timeout_s)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"layers cannot be timed for --cost latency: {cause_of(error)}") from error
    return CostModel.from_measures("latency", *measured)


def layer_milliseconds(spec: ModelSpec, out: str) -> tuple[list[float], list[float]]:
    """Median milliseconds of each layer, and of each bridge if there are any, on one row of LATENCY_TOKENS tokens.

    The first run only warms up.
    """
    import torch

    model = spec.load(out)
    layers: list[list[float]] = [[] for _ in range(model.num_layers)]
    bridges: list[list[float]] = [[] for _ in range(model.num_layers if model.bridges else 0)]

    def clock(computed: torch.Tensor) -> float:
        if computed.is_cuda:
            torch.cuda.synchronize(computed.device)
        return time.perf_counter()

    def timed(index: int, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        if model.bridges:
            started = clock(hidden)
            bridges[index].append(clock(model.bridges.maps[index].apply(hidden)) - started)
        started = clock(hidden)
        out = model.run_layer(index, hidden, args, kwargs)
        layers[index].append(clock(out) - started)
        return model.as_returned(index, out)

    ids = torch.arange(LATENCY_TOKENS, device=model.device)[None] % model.config.vocab_size
    with torch.inference_mode(), model.mode(timed):
        for _ in range(LATENCY_REPEATS):
            model.run_body(input_ids=ids, use_cache=False)
    in_layers, in_bridges = ([1000 * statistics.median(found[1:]) for found in part] for part in (layers, bridges))
    return in_layers, in_bridges
