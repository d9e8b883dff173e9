"""`pathgen check`: whether a model runs along paths, what is pinned or restricted and why, and what its layers cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.text import Text

from ..engine.path_model import PathModel
from ..engine.supported import UnsupportedModelError
from ..models.checking import UnsupportedTypeError
from ..models.facts import layer_parameters, num_layers
from ..models.loading import load_model
from ..models.reading import load_config
from ..models.resolving import resolve_model


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What was found of a model.

    Attributes:
        model: as it was named.
        type: its family, as its config says.
        supported: whether it runs along paths.
        reason: why not, in one line; None if it does.
        pinned_layers: always execute once, because later layers read their keys and values.
        restrictions: one line each on what a user meets.
        seconds: of wrapping it, the probe included, without the time it took to load.
    """

    model: str
    type: str
    supported: bool
    reason: str | None
    pinned_layers: tuple[int, ...]
    restrictions: tuple[str, ...]
    num_layers: int
    seconds: float


def check_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> ModelCheck:
    """Load a model, wrap it, and tell what its probe found.

    Raises:
        InputError: the model does not load.
    """
    try:
        folder = resolve_model(name)
    except UnsupportedTypeError as error:
        kind, layers = str(error.config.get("model_type")), error.config.get("num_hidden_layers") or 0
        return ModelCheck(name, kind, False, str(error), (), (), layers, 0.0)
    kind, layers = load_config(folder).model_type, num_layers(folder)
    loaded, tokenizer = load_model(name, dtype=dtype, device=device)
    started = time.perf_counter()
    try:
        model = PathModel(loaded, tokenizer)
    except UnsupportedModelError as error:
        return ModelCheck(name, kind, False, str(error), (), (), layers, time.perf_counter() - started)
    told = tuple(model.restrictions.told())
    return ModelCheck(
        name, kind, True, None, model.pinned_layers, told, model.num_layers, time.perf_counter() - started
    )


def check_text(found: ModelCheck) -> None:
    """Print it, with what its layers cost."""
    console = Console(highlight=False, soft_wrap=True)
    state = "runs along paths" if found.supported else "does not run along paths"
    console.print(Text(f"{found.model} ({found.type}, {found.num_layers} layers) {state}", style="bold"))
    if found.reason:
        console.print(Text(found.reason))
    if found.pinned_layers:
        numbers = ", ".join(map(str, found.pinned_layers))
        console.print(f"layers {numbers} always execute once: later layers read their keys and values")
    for line in found.restrictions:
        console.print(Text(line))
    if not found.supported:
        return
    sizes = layer_parameters(resolve_model(found.model), found.num_layers)
    if all(sizes):
        first = 0
        for size, same in groupby(round(size / 1e6, 2) for size in sizes):
            last = first + len(list(same)) - 1
            span = f"layers {first} to {last}" if last > first else f"layer {first}"
            console.print(f"{span}: {size:,.2f} M parameters per token each")
            first = last + 1
    console.print(f"probed in {found.seconds:.2f} s")
