"""`pathgen static --target divergence`: searches on half of the questions, and measures on the other half."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.program.progress import counted

from ..errors import InputError
from ..models.devices import default_device, default_dtype
from ..models.facts import fingerprint, layer_parameters, num_layers
from ..paths.layer_path import LayerPath
from ..questions.loading import load_questions
from ..questions.question import Question
from ..questions.tasks import Task, find_task
from ..store.files import check_writable, parent, put
from .candidates import shallowest_depth
from .divergence_paths import DivergenceEntry, DivergencePaths
from .draw import Asked, TooFewQuestions, draw_halves
from .options import StaticOptions
from .placed_model import bridges_digest, load_placed, resolved
from .run import load_runs, open_out
from .skip_search import SkipSearch

if TYPE_CHECKING:
    from ..engine.path_model import PathModel
    from ..evaluation.divergence import Difference, DivergenceMeter

MOST_QUESTIONS = 64
"""Of each source, without --limit."""
FEWEST_QUESTIONS = 4
"""Two for the search, and two for a standard error."""
RACED_SHARE = 3
"""The search compares candidates on one in so many of its questions; the best of a depth on all."""
FEWEST_RACED = 6


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Questions, and how they are asked."""

    task: Task
    chat: bool
    questions: Sequence[Question]


def find_divergence_paths(options: StaticOptions) -> DivergencePaths:
    """Find the path of each depth that diverges least, and write them to `options.out`.

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
    sources = [Source(find_task(run.info.task), run.chat, run.questions) for run in runs] or _read(options)
    layers, print_ = num_layers(folder), fingerprint(folder)
    shallowest = _shallowest(options.depth, layers, name)
    bridges = bridges_digest(options, print_)
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
    probe = Probe(load_placed(name, print_, options, dtype), sources)
    paths = _searched(probe, searched, shallowest, quiet=options.quiet)
    with counted("checking depths", len(paths), quiet=options.quiet) as on_depth:
        full, *frontier = probe.entries(
            held_out, [LayerPath.full(layers), *paths], _flops_ratio(probe.model, folder), on_depth
        )
    found = DivergencePaths(
        target="divergence",
        model_id=name,
        fingerprint=print_,
        tasks=tuple(dict.fromkeys(source.task.name for source in sources)),
        chat=sources[0].chat,
        num_layers=layers,
        questions=len(held_out),
        seed=options.seed,
        full=full,
        # A path without finite scores is no path.
        frontier=tuple(entry for entry in reversed(frontier) if math.isfinite(entry.divergence)),
        forward_tokens=round(probe.forward_tokens, 1),
        bridges=bridges,
        searched_on=tuple(sorted(entry.question.sha for entry in searched)),
        judged_on=tuple(sorted(entry.question.sha for entry in held_out)),
    )
    put(out_fs, out_path, found.to_json())
    return found


class Probe:
    """Compares paths with full depth on questions of several sources."""

    def __init__(self, model: PathModel, sources: Sequence[Source]):
        from ..evaluation.divergence import DivergenceMeter
        from ..evaluation.evaluator import Evaluator

        self.model = model
        evaluators = [Evaluator(model, source.task, chat=source.chat) for source in sources]
        self._meters: list[DivergenceMeter] = [DivergenceMeter(evaluator) for evaluator in evaluators]
        self._prepared: dict[str, Any] = {}

    @property
    def forward_tokens(self) -> float:
        """Token executions of layers so far, over the number of layers."""
        done = sum(meter.evaluator.executor.work.token_layers for meter in self._meters)
        return done / self.model.num_layers

    def measure(self, asked: Sequence[Asked], paths: Sequence[LayerPath]) -> list[list[Difference]]:
        """[Q][P] differences, one source after another."""
        found = []
        for index, meter in enumerate(self._meters):
            mine = [self._prepare(meter, entry.question) for entry in asked if entry.run == index]
            found += meter.measure(mine, paths) if mine else []
        return found

    def divergences(self, asked: Sequence[Asked], paths: Sequence[LayerPath]) -> np.ndarray:
        """[P] mean divergences over questions, in nats."""
        found = self.measure(asked, paths)
        return np.array([[one.divergence for one in row] for row in found]).mean(axis=0)

    def entries(
        self,
        asked: Sequence[Asked],
        paths: Sequence[LayerPath],
        flops_ratio: Callable[[LayerPath], float],
        on_path: Callable[[int], object],
    ) -> list[DivergenceEntry]:
        """What the paths are worth on these questions."""
        columns = zip(*self.measure(asked, paths), strict=True)
        entries = []
        for path, column in zip(paths, columns, strict=True):
            divergence, agreement = (
                _mean_with_error([getattr(one, name) for one in column]) for name in ("divergence", "agreement")
            )
            right = [one.correct for one in column if one.correct is not None]
            accuracy = float(np.mean(right)) if len(right) == len(column) else None
            entries.append(DivergenceEntry(path, *divergence, *agreement, accuracy, flops_ratio(path)))
            on_path(1)
        return entries

    def forget(self, asked: Sequence[Asked]) -> None:
        """Free the states of these questions."""
        for entry in asked:
            if (prepared := self._prepared.pop(entry.question.sha, None)) is not None:
                self._meters[entry.run].forget([prepared])

    def _prepare(self, meter: DivergenceMeter, question: Question) -> Any:
        if question.sha not in self._prepared:
            self._prepared[question.sha] = meter.evaluator.prepare(question)
        return self._prepared[question.sha]


def _searched(probe: Probe, asked: Sequence[Asked], shallowest: int, *, quiet: bool) -> list[LayerPath]:
    """The chosen path of each depth, deepest first."""
    raced = asked[: max(FEWEST_RACED, len(asked) // RACED_SHARE)]
    layers = probe.model.num_layers
    search = SkipSearch(
        layers, shallowest, lambda paths, everything: probe.divergences(asked if everything else raced, paths)
    )
    with counted("searching depths", layers - shallowest, quiet=quiet) as on_depth:
        paths = search.run(on_depth)
    probe.forget(asked)
    return paths


def _read(options: StaticOptions) -> list[Source]:
    """The questions of --text, gold or not."""
    if len(set(options.text)) < len(options.text):
        raise InputError("--text names a source twice")
    task = find_task(options.task or "arc-letter")
    return [Source(task, False, load_questions(text, needs=task.needs, labelled=False)) for text in options.text]


def _shallowest(wanted: int | None, layers: int, model: str) -> int:
    if layers < 2 or (wanted is not None and wanted >= layers):
        raise InputError(
            f"--depth {wanted or layers}: {model} has {layers} layers, so a path that skips has at most {layers - 1}"
        )
    return min(wanted or shallowest_depth(layers), layers - 1)


def _flops_ratio(model: PathModel, folder: Path) -> Callable[[LayerPath], float]:
    """FLOPs per token of the layers that run, and of the bridges where a path skips, over those of all layers.

    A layer costs two for each parameter that a token uses; a bridge of rank r and width H costs 4·r·H, or 2·H² if it
    is whole.
    """
    parameters = layer_parameters(folder, model.num_layers)
    if not all(parameters):  # the tensors' names do not tell the layers apart
        parameters = [float(sum(part.numel() for part in layer.parameters())) for layer in model.layers]
    bridges = [0.0] * model.num_layers
    if model.bridges is not None:
        bridges = [
            float(bridge.down.numel() + (0 if bridge.up is None else bridge.up.numel()))
            for bridge in model.bridges.maps
        ]

    def ratio(path: LayerPath) -> float:
        used = [
            action * layer if action else bridge
            for action, layer, bridge in zip(path, parameters, bridges, strict=True)
        ]
        return math.fsum(used) / math.fsum(parameters)

    return ratio


def _mean_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over questions, and its standard error."""
    if not np.isfinite(values).all():
        return math.inf, math.inf
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
