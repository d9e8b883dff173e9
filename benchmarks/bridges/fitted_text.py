"""On which text should bridges be fitted? Divergence from full depth on other text, by source and mixture.

    python -m benchmarks.bridges.fitted_text --text builtin --text self --text math=gsm8k_text.jsonl
        --mix builtin+self --mix builtin+self+math --held-out arc=A.jsonl --held-out math=B.jsonl
        --path 27=......---... --path 22=...--------... --out table.json

Every source gives the same number of tokens. Sums add up, so a mixture of k sources takes a k-th of each one's sums:
all mixtures see equally many tokens, and each token runs once. Told are mean KL(full ‖ path) in nats over all
positions of the held-out texts, and its ratio to the first mixture's with an interval over texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.lab.entries import named, named_paths
from benchmarks.lab.measurement import machine, ratio, run_script
from benchmarks.lab.models import Model, model_title
from cluster.program.console import print_json, tell
from pathgen.bridges.maps import Bridge
from pathgen.bridges.sums import LayerSums
from pathgen.engine.logprobs import divergence
from pathgen.engine.path_model import PathModel
from pathgen.fitting.fit import empty_sums
from pathgen.fitting.states import add_texts, batch_inputs, groups_of
from pathgen.fitting.text import Piece, open_source
from pathgen.models.resolving import resolve_model
from pathgen.paths.layer_path import LayerAction, LayerPath
from pathgen.questions.tasks import find_task

RIDGE = 1e-3
Sums = list[LayerSums]
Maps = Sequence[Bridge]


def pieces_of(model: PathModel, source: str, task: str, seed: int, tokens: int) -> list[Piece]:
    """The first texts of a source with at least so many tokens in all."""

    def enough() -> Iterator[Piece]:
        total = 0
        for piece in open_source(source, find_task(task), chat=False, seed=seed)(model):
            yield piece
            total += len(piece)
            if total >= tokens:
                return

    return list(enough())


def sums_of(model: PathModel, pieces: Sequence[Piece]) -> Sums:
    """The sums of all layers over texts."""
    sums = empty_sums(model.num_layers, model.config.hidden_size)
    for group in groups_of(model, pieces):
        add_texts(model, group, sums)
    return sums


def merged(parts: Sequence[Sums]) -> Sums:
    """The sums over all parts."""
    total = empty_sums(len(parts[0]), len(parts[0][0].gram) - 1)
    for part in parts:
        for one, more in zip(total, part, strict=True):
            one.merge(more)
    return total


@torch.inference_mode()
def divergences(
    model: PathModel, texts: Sequence[Piece], paths: Sequence[LayerPath], ways: Sequence[Maps | None]
) -> NDArray[np.float64]:
    """[ways, paths, texts] mean KL(full ‖ path) in nats over a text's positions; None of `ways`: plain skips."""
    found = np.empty((len(ways), len(paths), len(texts)))
    for place, piece in enumerate(texts):
        given, _ = batch_inputs(model, [piece])
        hidden, calls = model.capture(**given)
        full = [hidden]
        for layer in range(model.num_layers):
            full.append(model.run_layer(layer, full[-1], *calls[layer]))
        wanted = model.head(full[-1][0]).log_softmax(-1)
        for number, path in enumerate(paths):
            first = path.index(LayerAction.SKIP)
            for way, maps in enumerate(ways):
                state = full[first]
                for layer in range(first, model.num_layers):
                    if path[layer]:
                        state = model.run_layer(layer, state, *calls[layer])
                    elif maps is not None:
                        state = maps[layer].apply(state)
                found[way, number, place] = float(divergence(wanted, model.head(state[0]).log_softmax(-1)).mean())
    return found


def main(
    model: Model,
    text: Annotated[list[str], typer.Option(help="NAME=SOURCE to fit on; may repeat.")],
    held_out: Annotated[list[str], typer.Option(help="NAME=SOURCE to measure on; may repeat.")],
    path: Annotated[list[str], typer.Option(help="NAME=PATH; may repeat.")],
    mix: Annotated[list[str], typer.Option(help="Names joined by +; the first is what others are compared with.")],
    out: Annotated[Path, typer.Option(help="The table as JSON.")],
    tokens: Annotated[int, typer.Option(help="Tokens of each source.")] = 8000,
    test_tokens: Annotated[int, typer.Option(help="Tokens of each held-out source.")] = 700,
    rank: Annotated[int, typer.Option(help="Of the maps.")] = 64,
    task: Annotated[str, typer.Option(help="How questions are asked.")] = "arc",
    seed: Annotated[int, typer.Option(help="Of the texts.")] = 0,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1,
) -> None:
    """Fit and measure; the last line on stdout is one JSON document."""
    torch.set_num_threads(threads)
    path_model = PathModel.from_pretrained(str(resolve_model(model)))
    paths = named_paths(path)
    mixtures = [one.split("+") for one in (*mix, *(name for name in named(text) if name not in mix))]
    shares = math.lcm(*map(len, mixtures))
    parts: dict[str, list[Sums]] = {}
    for name, source in named(text).items():
        pieces = pieces_of(path_model, source, task, seed, tokens)
        parts[name] = [sums_of(path_model, list(islice(pieces, start, None, shares))) for start in range(shares)]
        tell(f"{name}: {sum(map(len, pieces)):,} tokens summed")
    ways: dict[str, Maps | None] = {"plain skips": None}
    for names in mixtures:
        sums = merged([part for name in names for part in parts[name][: shares // len(names)]])
        ways["+".join(names)] = [one.solve(rank, RIDGE) for one in sums]
    rows = []
    for name, source in named(held_out).items():
        texts = pieces_of(path_model, source, task, seed, test_tokens)
        found = divergences(path_model, texts, list(paths.values()), list(ways.values()))
        base = found[list(ways).index("+".join(mixtures[0]))]
        for way, values in zip(ways, found, strict=True):
            for place, path_name in enumerate(paths):
                against = ratio(values[place], base[place], seed)
                nats = float(values[place].mean())
                rows.append({"held_out": name, "path": path_name, "text": way, "nats": nats, "ratio": against})
        tell(f"{name}: {len(texts)} texts measured")
    result = {
        "benchmark": "bridge_text",
        "machine": machine(threads),
        "model": model_title(model),
        "tokens": tokens,
        "test_tokens": test_tokens,
        "rank": rank,
        "paths": {name: str(value) for name, value in paths.items()},
        "rows": rows,
    }
    out.write_text(f"{json.dumps(result)}\n")
    print_json(result)


if __name__ == "__main__":
    run_script(main)
