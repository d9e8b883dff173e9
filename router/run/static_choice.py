"""The static path that a training builds on: read from --static, or looked for, and chosen by the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pathgen.paths.layer_path import LayerPath
from pathgen.static.run import StaticOptions, find_static_paths
from pathgen.static.static_paths import StaticPaths, load_static

from ..data.path_datasets import PathDatasets
from ..net.config import allowed_actions
from ..saved.layout import STATIC_NAME
from .options import TrainOptions


def given_static(options: TrainOptions, datasets: PathDatasets) -> StaticPaths | None:
    """What --static names, if the method reads it; a path that it has for the wish is looked for at once.

    Raises:
        InputError: the file cannot be read, or no path of it is within --target-depth.
        ArtefactError: it is damaged, or of another model than the datasets.
    """
    if options.static is None or options.method == "gates":
        return None
    found = load_static(options.static)
    found.check_matches(datasets.fingerprint, datasets.num_layers, options.static)
    static_path(found, options)
    return found


def find_static(
    options: TrainOptions, folder: Path, model: str, device: str, wanted: Callable[[str], bool]
) -> StaticPaths:
    """Look for static paths on the wanted questions of --paths; the router's folder keeps the find.

    Args:
        options: of the training.
        folder: of the router.
        model: alias, folder or hub id.
        device: a torch device.
        wanted: which questions may be learned from, by id.

    Raises:
        PathgenError: as `pathgen.static.run.find_static_paths`.
    """
    wishes = StaticOptions(
        paths=options.paths,
        out=str(folder / STATIC_NAME),
        model=model,
        device=device,
        dtype=options.features.dtype,
        seed=options.training.seed,
        quiet=options.quiet,
    )
    return find_static_paths(wishes, wanted)


def static_path(found: StaticPaths, options: TrainOptions) -> LayerPath:
    """The path to deploy, of those that take no other actions than the router may.

    Raises:
        InputError: none is within --target-depth.
    """
    allowed = set(allowed_actions(options.actions))
    fitting = replace(found, frontier=tuple(entry for entry in found.frontier if set(entry.path) <= allowed))
    depth = options.target_depth
    return fitting.best.path if depth is None else fitting.at_depth(int(depth))
