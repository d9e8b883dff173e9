"""`pathgen static --target divergence`: searches on half of the questions, and measures on the other half."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cluster.program.progress import counted

from ..bridges.info import BridgesInfo
from ..errors import InputError
from ..identity import used_by
from ..models.devices import default_device, default_dtype
from ..models.facts import fingerprint, num_layers
from ..models.reading import load_tokenizer
from ..paths.layer_path import LayerPath
from ..questions.loading import load_questions
from ..questions.tasks import find_task
from ..questions.written import is_written, read_written
from ..store.files import check_writable, parent, put
from .candidates import shallowest_depth
from .divergence_paths import DivergencePaths
from .divergence_probe import Probe, Source
from .draw import Asked, TooFewQuestions, draw_halves
from .flops import flops_ratio
from .options import StaticOptions
from .placed_model import bridges_info, load_placed, resolved
from .run import load_runs, open_out
from .skip_search import SkipSearch

MOST_QUESTIONS = 64
"""Of each source, without --limit."""
FEWEST_QUESTIONS = 4
"""Two for the search, and two for a standard error."""
RACED_SHARE = 3
"""The search compares candidates on one in so many of its questions; the best of a depth on all."""
FEWEST_RACED = 6


def find_divergence_paths(options: StaticOptions) -> DivergencePaths:
    """Find the path of each depth that diverges least, and write them to `options.out`.

    Bridges that were fitted along a path serve that path alone: it is measured, and nothing is searched.

    Raises:
        InputError: a source or folder cannot be used, the depth is not below the model's, or the output file cannot
            be written.
        TooFewQuestions: there are fewer than FEWEST_QUESTIONS.
        ArtefactError: runs of different models, a damaged run, bridges of another model, or the model now has other
            weights.
        QuestionError: a question does not fit the model.
    """
    out_fs, out_path = open_out(options.out)
    runs = load_runs(options) if options.paths else []
    name, folder = resolved(options, runs[0] if runs else None)
    sources = [Source(run.info.asked_task, run.chat, run.questions) for run in runs] or _read(options, folder)
    layers = num_layers(folder)
    chat, generates = any(source.chat for source in sources), any(source.task.generates for source in sources)
    print_ = used_by(fingerprint(folder), chat=chat, generates=generates)
    shallowest = _shallowest(options.depth, layers, name)
    bridges = bridges_info(options, print_, runs[0] if runs else None)
    fitted_along = _fitted_along(bridges, options.depth)
    searched, held_out = draw_halves(
        [source.questions for source in sources], options.seed, options.limit or MOST_QUESTIONS
    )
    if (count := len(searched) + len(held_out)) < FEWEST_QUESTIONS:
        raise TooFewQuestions(
            f"{count} different questions are too few: {FEWEST_QUESTIONS} are needed, half to search on and half held "
            "out; about fifty give reliable figures"
        )
    check_writable(out_fs, parent(out_path), f"--out {options.out}")
    dtype = options.dtype or (runs[0].dtype if runs else default_dtype(options.device or default_device()))
    probe = Probe(load_placed(name, print_, options, dtype, runs[0] if runs else None), sources)
    paths = [fitted_along] if fitted_along else _searched(probe, searched, shallowest, quiet=options.quiet)
    with counted("checking depths", len(paths), quiet=options.quiet) as on_depth:
        full, *frontier = probe.entries(
            held_out, [LayerPath.full(layers), *paths], flops_ratio(probe.model, folder), on_depth
        )
    found = DivergencePaths(
        target="divergence",
        model_id=name,
        fingerprint=print_,
        tasks=tuple(dict.fromkeys(source.task.name for source in sources)),
        chat=chat,
        num_layers=layers,
        questions=len(held_out),
        seed=options.seed,
        full=full,
        # A path without finite scores is no path.
        frontier=tuple(entry for entry in reversed(frontier) if math.isfinite(entry.divergence)),
        forward_tokens=round(probe.forward_tokens, 1),
        bridges=bridges.digest if bridges else None,
        searched_on=tuple(sorted(entry.question.sha for entry in searched)),
        judged_on=tuple(sorted(entry.question.sha for entry in held_out)),
    )
    put(out_fs, out_path, found.to_json())
    return found


def _fitted_along(bridges: BridgesInfo | None, depth: int | None) -> LayerPath | None:
    """The path that the bridges were fitted along, if they were."""
    if bridges is None or bridges.along is None:
        return None
    path = LayerPath.parse(bridges.along)
    if depth not in (None, path.depth):
        raise InputError(
            f"--depth {depth}: the bridges were fitted along {path}, of depth {path.depth}, and serve that path alone; "
            "leave --depth out, or give bridges that were fitted without --along"
        )
    return path


def _searched(probe: Probe, asked: Sequence[Asked], shallowest: int, *, quiet: bool) -> list[LayerPath]:
    """The chosen path of each depth, deepest first."""
    raced = asked[: max(FEWEST_RACED, len(asked) // RACED_SHARE)]
    layers = probe.model.num_layers
    search = SkipSearch(
        layers,
        shallowest,
        lambda paths, everything: probe.divergences(asked if everything else raced, paths),
        probe.model.pinned_layers,
    )
    with counted("searching depths", layers - shallowest, quiet=quiet) as on_depth:
        paths = search.run(on_depth)
    probe.forget(asked)
    return paths


def _read(options: StaticOptions, model: Path) -> list[Source]:
    """The questions of --text, gold or not. With --chat, the tokenizer in the model's folder must have a template."""
    if len(set(options.text)) < len(options.text):
        raise InputError("--text names a source twice")
    task = find_task(options.task or "arc")
    sources = []
    for text in options.text:
        if is_written(text):
            written = read_written(text)
            sources.append(Source(written.task, written.chat, written.questions))
        else:
            questions = load_questions(text, needs=task.needs, labelled=False)
            sources.append(Source(task, options.chat, questions))
    if asked := next((source for source in sources if source.chat), None):
        asked.task.encode(asked.questions[0], load_tokenizer(model), asked.chat)
    return sources


def _shallowest(wanted: int | None, layers: int, model: str) -> int:
    if layers < 2 or (wanted is not None and wanted >= layers):
        raise InputError(
            f"--depth {wanted or layers}: {model} has {layers} layers, so a path that skips has at most {layers - 1}"
        )
    return min(wanted or shallowest_depth(layers), layers - 1)
