"""What depth is worth in time: decoding along shallow paths, alone and mixed in a batch, beside full depth.

    python -m benchmarks.speed.decode_speed --new-tokens 48 --repeats 15

Rivals take turns on the same prompts. The rate is that of decoding alone: the time of a whole generation less that of
one that ends after its first token. Told, with the medians of their ratios over turns:

- one path of --depth layers against full depth, at batch 1 and at --batch;
- a batch of as many different paths of that depth, one a row, against full depth;
- that mixed batch against its rows run one by one;
- full depth through the wrapped model against the untouched Hugging Face model, whole generations;
- with --bridge-rank, the one path with random bridges where it skips against the same path without, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.lab.measurement import machine, median_ratio, rotated, run_script
from benchmarks.lab.models import Model
from cluster.program.console import print_json
from pathgen.bridges.maps import Bridge, Bridges
from pathgen.engine.path_model import PathModel
from pathgen.engine.policies import FixedPaths
from pathgen.models.loading import load_model
from pathgen.paths.layer_path import LayerPath

Generate = Callable[[int], object]
"""Makes so many new tokens for every prompt."""
RATES = {
    "shallow_to_full_rate_batch_1": ("shallow, batch 1", "full, batch 1"),
    "shallow_to_full_rate": ("shallow", "full"),
    "mixed_to_full_rate": ("mixed", "full"),
    "mixed_to_one_by_one_rate": ("mixed", "mixed, one by one"),
    "bridged_to_shallow_rate_batch_1": ("bridged, batch 1", "shallow, batch 1"),
    "bridged_to_shallow_rate": ("bridged", "shallow"),
}
"""Ratios of decoding rates, by the name they are told under."""
TIMES = {
    "full_to_untouched_time_batch_1": ("full, batch 1", "untouched, batch 1"),
    "full_to_untouched_time": ("full", "untouched"),
}
"""Ratios of the times of whole generations."""


def shallow_paths(num_layers: int, depth: int, count: int, rng: np.random.Generator) -> list[LayerPath]:
    """Different paths that skip layers drawn at random."""
    paths: set[LayerPath] = set()
    while len(paths) < count:
        path = np.ones(num_layers, dtype=int)
        path[rng.choice(num_layers, num_layers - depth, replace=False)] = 0
        paths.add(LayerPath(path.tolist()))
    return sorted(paths)


def along(model: PathModel, ids: torch.Tensor, paths: list[LayerPath]) -> Generate:
    """Along one path a row."""

    def generate(tokens: int) -> object:
        return model.generate(ids, policy=FixedPaths(paths), max_new_tokens=tokens, min_new_tokens=tokens)

    return generate


def over_bridges(model: PathModel, generate: Generate, bridges: Bridges) -> Generate:
    """The same with bridges where paths skip."""
    with model.bridged(bridges):
        placed = model.bridges  # moved once, not at each turn

    def bridged(tokens: int) -> object:
        with model.bridged(placed):
            return generate(tokens)

    return bridged


def random_bridges(num_layers: int, width: int, rank: int) -> Bridges:
    """Small random maps of a rank, one a layer."""
    return Bridges(
        tuple(
            Bridge(*(torch.randn(shape) * 0.01 for shape in ((rank, width), (width, rank), (width,))))
            for _ in range(num_layers)
        )
    )


def one_by_one(model: PathModel, ids: torch.Tensor, paths: list[LayerPath]) -> Generate:
    """Each row alone."""
    rows = [along(model, ids[index : index + 1], [path]) for index, path in enumerate(paths)]
    return lambda tokens: [generate(tokens) for generate in rows]


def untouched(model: PreTrainedModel, ids: torch.Tensor) -> Generate:
    """The Hugging Face model's own."""

    def generate(tokens: int) -> object:
        asked = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)
        return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=asked)

    return generate


def timed(generate: Generate, tokens: int, device: torch.device) -> float:
    """Seconds."""
    started = time.perf_counter()
    generate(tokens)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main(
    model: Model = "smollm2-135m",
    depth: Annotated[int, typer.Option(help="Layers of the shallow paths.")] = 24,
    batch: Annotated[int, typer.Option(help="Prompts of the larger batch.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(help="Of each prompt.")] = 64,
    new_tokens: Annotated[int, typer.Option(help="Of each answer.")] = 48,
    repeats: Annotated[int, typer.Option(help="Turns of each.")] = 15,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    bridge_rank: Annotated[int | None, typer.Option(help="Time random bridges of this rank instead.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of prompts, paths and intervals.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    path_model = PathModel.from_pretrained(model, dtype=dtype, device=device)
    plain, _ = load_model(model, dtype=dtype, device=device)
    layers = path_model.num_layers
    ids = torch.randint(100, path_model.config.vocab_size, (batch, prompt_tokens), device=device)
    full = LayerPath.full(layers)
    drawn = shallow_paths(layers, depth, batch, np.random.default_rng(seed))
    rivals: dict[str, Generate] = {
        "full, batch 1": along(path_model, ids[:1], [full]),
        "shallow, batch 1": along(path_model, ids[:1], drawn[:1]),
        "untouched, batch 1": untouched(plain, ids[:1]),
        "full": along(path_model, ids, [full] * batch),
        "shallow": along(path_model, ids, drawn[:1] * batch),
        "mixed": along(path_model, ids, drawn),
        "mixed, one by one": one_by_one(path_model, ids, drawn),
        "untouched": untouched(plain, ids),
    }
    if bridge_rank is not None:
        bridges = random_bridges(layers, path_model.config.hidden_size, bridge_rank)
        for name in list(rivals):
            shallow = rivals.pop(name)
            if name.startswith("shallow"):
                bridged = name.replace("shallow", "bridged")
                rivals |= {name: shallow, bridged: over_bridges(path_model, shallow, bridges)}
    whole: dict[str, list[float]] = {name: [] for name in rivals}
    first: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeats + 1):  # the first turn warms up
        for name in rotated(list(rivals), turn):
            shortest, seconds = (timed(rivals[name], tokens, path_model.device) for tokens in (1, new_tokens))
            if turn:
                first[name].append(shortest)
                whole[name].append(seconds)

    def faster(quick: str, slow: str) -> dict[str, Any]:
        decode = {name: np.array(whole[name]) - np.array(first[name]) for name in (quick, slow)}
        return median_ratio(decode[slow], decode[quick], seed)

    print_json(
        {
            "benchmark": "decode_speed",
            "model": model,
            "dtype": dtype,
            "batch": batch,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "repeats": repeats,
            "seed": seed,
            "depth": [depth, layers],
            "bridge_rank": bridge_rank,
            **{key: faster(*pair) for key, pair in RATES.items() if rivals.keys() >= set(pair)},
            **{
                key: median_ratio(whole[one], whole[other], seed)
                for key, (one, other) in TIMES.items()
                if rivals.keys() >= {one, other}
            },
            "decoded_tokens_per_second": {
                name: (new_tokens - 1)
                * (1 if "batch 1" in name else batch)
                / float(np.median(np.array(whole[name]) - np.array(first[name])))
                for name in rivals
            },
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
