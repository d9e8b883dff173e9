"""The path to export: from a router, from a file of static paths, or given by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathgen.bridges.folder import folder_info
from pathgen.errors import InputError
from pathgen.models.facts import num_layers
from pathgen.models.resolving import resolve_model, resolve_recorded
from pathgen.paths.layer_path import LayerPath
from pathgen.static.divergence_paths import DivergencePaths
from pathgen.static.static_paths import StaticPaths, gain_interval, load_static
from router.net.policy import RouterPolicy
from router.net.router import Router
from router.saved.layout import TRAINING_NAME
from router.saved.loading import load_router, resolve_router

from .options import ExportOptions

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class ChosenPath:
    """One path for all questions, and where it comes from.

    Attributes:
        model: alias, hub id or folder of the base model.
        folder: its local folder.
        origin: how the path was chosen, in words.
        worth: its accuracy as its files tell it, in words.
        bridges: folder of the bridges that it runs over; None without.
    """

    path: LayerPath
    model: str
    folder: Path
    origin: str
    worth: str = NOT_MEASURED
    bridges: str | None = None


def choose(options: ExportOptions) -> ChosenPath:
    """The path that the options name, checked against its model.

    Raises:
        InputError: a file or model does not exist, the router reads its question, there is no static path of this
            depth, or the path is empty or of another number of layers.
        ArtefactError: a router or static path is damaged, or of another model.
    """
    if options.router is not None:
        chosen = _of_router(options.router, options.model, options.bias)
    elif options.static is not None:
        chosen = _of_static(options.static, options.model, options.depth, options.bridges)
    else:
        assert options.path is not None  # the options check both
        assert options.model is not None
        chosen = ChosenPath(LayerPath.parse(options.path), options.model, resolve_model(options.model), "given by hand")
    if options.bridges is not None:
        chosen = replace(chosen, bridges=options.bridges)
    layers = num_layers(chosen.folder)
    if len(chosen.path) != layers:
        raise InputError(f"the path has {len(chosen.path)} layers, {chosen.model} has {layers}")
    if chosen.path.depth == 0:
        raise InputError("the path skips every layer: a model of depth 0 is no model")
    return chosen


def _of_router(name: str, model: str | None, bias: float) -> ChosenPath:
    place = resolve_router(name)
    router = load_router(place)
    config = router.config
    path, trained = RouterPolicy(router, bias).path, RouterPolicy(router).path
    if config.fall_back_below is not None:
        raise InputError(
            f"{name} is a cascade: unsure questions take full depth, so it has no one path to export; use it with "
            "`infer generate`, or export one of `pathgen static`"
        )
    if path is None:
        raise InputError(
            f"{name} reads each question (method {config.method}, head {config.head}) and so has no one path to "
            "export; use it with `infer generate`, or export one of `pathgen static`"
        )
    model = model or config.base_model
    folder = resolve_recorded(model, config.base_fingerprint, name)
    origin = f"by a router (method {config.method}, tasks {', '.join(config.tasks)}{_chat(chat=bool(config.chat))})"
    if bias:
        origin += f" with a bias of {bias:g}"
    worth = _router_worth(place, router) if path == trained else "not measured with this bias"
    return ChosenPath(path, model, folder, origin, worth, str(place) if config.bridges else None)


def _of_static(name: str, model: str | None, depth: int | None, bridges: str | None) -> ChosenPath:
    static = load_static(name)
    digest = None if bridges is None else folder_info(bridges, static.fingerprint).digest
    static.check_bridges(digest, name)
    depths = sorted(entry.depth for entry in (static.full, *static.frontier))
    if depth is not None and depth not in depths:
        raise InputError(
            f"--depth {depth}: {name} has no path of this depth; its depths are {', '.join(map(str, depths))}"
        )
    if isinstance(static, DivergencePaths):
        kind, (path, worth) = "closest to full depth", _by_divergence(static, depth)
    else:
        kind, (path, worth) = "the most accurate", _by_accuracy(static, depth)
    model = model or static.model_id
    folder = resolve_recorded(model, static.fingerprint, name)
    rule = f"{kind} of any depth" if depth is None else f"{kind} of depth {depth}"
    origin = f"by `pathgen static`, {rule} (tasks {', '.join(static.tasks)}{_chat(chat=static.chat)})"
    return ChosenPath(path, model, folder, origin, worth)


def _chat(*, chat: bool) -> str:
    return ", prompts through the chat template" if chat else ""


def _by_accuracy(static: StaticPaths, depth: int | None) -> tuple[LayerPath, str]:
    """The path, of this depth or of any, and its worth in words."""
    entry = static.best if depth is None else next(e for e in (static.full, *static.frontier) if e.depth == depth)
    questions = f"on {static.questions} questions"
    if entry.path == static.full.path:
        return entry.path, f"accuracy {entry.cv_accuracy:.3f} {questions}: this is the full path"
    held_out = static.choice if depth is None else entry
    kind = "cross-validated, the depth given" if depth else "cross-validated, the choice of the depth included"
    low, high = gain_interval(held_out, static.questions, static.seed)
    return entry.path, (
        f"accuracy {held_out.cv_accuracy:.3f} {questions} ({kind}); full depth {static.full.cv_accuracy:.3f}; "
        f"gain {_points(held_out.cv_delta_vs_full, low, high)}"
    )


def _by_divergence(static: DivergencePaths, depth: int | None) -> tuple[LayerPath, str]:
    """As `_by_accuracy`; of any depth it is the full path."""
    entry = static.best if depth is None else next(e for e in (static.full, *static.frontier) if e.depth == depth)
    accuracy = ""
    if entry.accuracy is not None and static.full.accuracy is not None:
        accuracy = f"; accuracy {entry.accuracy:.3f}, full depth {static.full.accuracy:.3f}"
    return entry.path, (
        f"divergence {entry.divergence:.3f} ± {entry.divergence_se:.3f} nats and agreement {entry.agreement:.3f} ± "
        f"{entry.agreement_se:.3f} with full depth, on {static.questions} held-out questions{accuracy}"
    )


def _router_worth(folder: Path, router: Router) -> str:
    """From the figures of its training, else from the notes in its config, which have no interval."""
    figures: Mapping[str, Any] = router.config.notes
    with suppress(OSError, ValueError, TypeError, KeyError):  # a router from the hub has no such file
        figures = {**figures, **json.loads((folder / TRAINING_NAME).read_bytes())["figures"]}
    try:
        text = (
            f"accuracy {figures['routed_accuracy']:.3f} on {figures['dev_questions']} development questions; full "
            f"depth {figures['full_accuracy']:.3f}"
        )
        if "delta_ci95" in figures:
            text += f"; gain {_points(figures['delta_vs_full'], *figures['delta_ci95'])}"
    except (KeyError, ValueError, TypeError):
        return NOT_MEASURED
    chosen = figures.get("chosen_on_dev")
    chosen = ", ".join(chosen) if isinstance(chosen, list) else chosen
    return f"{text} (too good: {chosen} chosen on the same questions)" if chosen else text


def _points(gain: float, low: float, high: float) -> str:
    return f"{100 * gain:+.1f} points, 95 % interval [{100 * low:+.1f}, {100 * high:+.1f}]"
