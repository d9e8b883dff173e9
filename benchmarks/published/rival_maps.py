"""Maps of the rivals and of ours, each fitted once and kept: one for a run of layers, and bridges along a path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pathgen.bridges.maps import Bridge, Bridges
from pathgen.bridges.sums import LayerSums
from pathgen.engine.path_model import PathModel
from pathgen.fitting.along import refit
from pathgen.fitting.states import batch_inputs, batches_of
from pathgen.fitting.text import Piece, draw, open_source
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.tasks import Task

RIDGE = 1e-3
Draw = Callable[[], Sequence[Piece]]
"""Gives the text to fit on."""


def text_draw(model: PathModel, sources: Sequence[str], task: Task, tokens: int, seed: int) -> Draw:
    """Draws text from sources as `pathgen bridge` does, whenever it is called."""

    def drawn() -> Sequence[Piece]:
        streams = [open_source(source, task, chat=False, seed=seed)(model) for source in sources]
        return draw(streams, tokens).fit

    return drawn


def run_maps(model: PathModel, runs: Sequence[range], draw_text: Draw, folder: Path) -> list[Bridge]:
    """The map in the place of each run."""
    file = folder / "runs.safetensors"
    if not file.exists():
        fitted = fit_runs(model, batches_of(model, draw_text()), runs, RIDGE)
        _keep(file, {str(run): one for run, one in zip(runs, fitted, strict=True)})
    stored = load_file(file)
    return [_kept(stored, str(run)) for run in runs]


def refitted(model: PathModel, maps: Bridges, path: LayerPath, draw_text: Draw, folder: Path) -> Bridges:
    """The bridges, those of the layers that a path skips refitted along it."""
    file = folder / f"refit_{path.depth}.safetensors"
    if not file.exists():
        rank = maps.maps[0].rank if maps.maps[0].up is not None else None
        fitted = refit(model, batches_of(model, draw_text()), path, rank, RIDGE)
        _keep(file, {str(layer): one for layer, one in fitted.items()})
    stored = load_file(file)
    return Bridges(
        tuple(bridge if path[layer] else _kept(stored, str(layer)) for layer, bridge in enumerate(maps.maps))
    )


def _keep(file: Path, named: Mapping[str, Bridge]) -> None:
    tensors = {
        f"{name} {what}": part
        for name, one in named.items()
        for what, part in (("down", one.down), ("up", one.up), ("bias", one.bias))
        if part is not None
    }
    save_file(tensors, file)


def _kept(stored: Mapping[str, Tensor], name: str) -> Bridge:
    return Bridge(stored[f"{name} down"], stored.get(f"{name} up"), stored[f"{name} bias"])


@torch.inference_mode()
def fit_runs(
    model: PathModel, batches: Sequence[Sequence[Piece]], runs: Sequence[range], ridge: float
) -> Iterator[Bridge]:
    """One whole map for each run, from the states that reach its first layer to those that leave its last.

    ReplaceMe puts one linear map in a run's place. This one reads the normalised state and has a bias, as bridges do.
    """
    sums = [LayerSums.empty(model.config.hidden_size) for _ in runs]
    for pieces in batches:
        inputs, tokens = batch_inputs(model, pieces)
        reached: dict[int, Tensor] = {}

        def watch(
            index: int,
            hidden: Tensor,
            *args: Any,
            reached: dict[int, Tensor] = reached,
            tokens: Tensor = tokens,
            **kwargs: Any,
        ) -> Any:
            reached[index] = hidden[tokens]
            after = model.run_layer(index, hidden, args, kwargs)
            for run, one in zip(runs, sums, strict=True):
                if index == run[-1]:
                    one.add(reached[run[0]], after[tokens])
            return model.as_returned(index, after)

        with model.mode(watch):
            model.run_body(**inputs)
    yield from (one.solve(None, ridge) for one in sums)


def in_place_of(run: range, bridge: Bridge, num_layers: int) -> Bridges:
    """Bridges that run a map once where a path skips a run: at its first layer, and nothing at the others."""
    width = len(bridge.bias)
    nothing = Bridge(torch.zeros(1, width), torch.zeros(width, 1), torch.zeros(width))
    return Bridges(tuple(bridge if layer == run[0] else nothing for layer in range(num_layers)))
