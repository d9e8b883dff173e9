"""`pathgen static`: measure single edits on some questions, propose paths by them, race those on the others, choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.program.progress import ProgressView

from ..errors import ArtefactError, InputError
from ..models.devices import check_device_and_dtype
from ..models.resolving import resolve_recorded
from ..paths.layer_path import LayerPath
from ..questions.tasks import find_task
from ..store.files import check_writable, open_folder, parent, put
from ..store.searched_run import SearchedRun, check_askable
from .candidates import propose
from .choice import choose_paths
from .draw import Asked, draw_folds, draw_questions, taking_part
from .effects import Effects, scanned_paths
from .path_table import PathTable, Scores
from .selection import survivors
from .static_paths import StaticPaths

if TYPE_CHECKING:
    from ..engine.path_model import PathModel
    from ..evaluation.evaluator import Evaluator

RACE_EVERY_QUESTIONS = 75
"""Candidates are dropped after each so many questions."""


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """The options of `pathgen static`; its help tells each.

    Raises:
        InputError: names the option, what it may be, and what was given.
    """

    paths: tuple[str, ...]
    out: str
    limit: int | None = None
    candidates: int = 48
    folds: int = 5
    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    seed: int = 0
    quiet: bool = False
    model: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a folder."""
        check_device_and_dtype(self.device, self.dtype)


def find_static_paths(options: StaticOptions, wanted: Callable[[str], bool] = lambda question_id: True) -> StaticPaths:
    """Do what the options ask for, and write the result.

    Args:
        options: what is asked for.
        wanted: which questions take part, by id.

    Raises:
        InputError: a folder holds no run or nothing searched, a bad device, dtype or output file.
        TooFewQuestions: a folder has too few to judge paths by.
        ArtefactError: runs of different models, a damaged one, or a model that is not the runs' any more.
    """
    out_fs, out_path = open_folder(options.out)
    if out_fs.isdir(out_path):
        raise InputError(f"--out {options.out} is a folder; give a file, for example {options.out}/static.json")
    runs = load_runs(options, wanted)
    scanned, judged = draw_questions(runs, options.seed)
    folds = draw_folds(runs, judged, options.folds)
    check_writable(out_fs, parent(out_path), f"--out {options.out}")
    models = Models(runs[0], options)
    tables = [PathTable(run, models.dtype, models.evaluator_of(run)) for run in runs]
    quality = scan(tables, scanned, scanned_paths(runs[0].num_layers), quiet=options.quiet)
    paths = race(tables, judged, propose(Effects.measure(quality), options.candidates), options)
    scores = scores_of(tables, judged, paths)
    run_of = np.array([entry.run for entry in judged])
    shas = [entry.question.sha for entry in (*scanned, *judged)]
    found = choose_paths(runs, run_of, folds, paths, scores, options.seed, shas)
    put(out_fs, out_path, found.to_json())
    return found


def load_runs(options: StaticOptions, wanted: Callable[[str], bool] = lambda question_id: True) -> list[SearchedRun]:
    """The runs of --paths, with the questions that take part.

    Raises:
        InputError: a folder given twice, questions that cannot be asked, or as `SearchedRun.load`.
        ArtefactError: as that, or runs of different models or prompt formats.
    """
    if len(set(options.paths)) < len(options.paths):
        raise InputError("--paths names a folder twice")
    runs = [
        SearchedRun.load(folder, lambda searched: taking_part(searched, options.limit, options.seed, wanted))
        for folder in options.paths
    ]
    for run in runs:
        check_askable(run.questions, find_task(run.info.task), run.out)
    for run in runs[1:]:
        if run.info.fingerprint != runs[0].info.fingerprint:
            raise ArtefactError(
                f"{run.out} is of model {run.info.model_id} ({run.info.fingerprint}), {runs[0].out} of "
                f"{runs[0].info.model_id} ({runs[0].info.fingerprint}); one path serves one model: search them apart"
            )
        if run.chat != runs[0].chat:
            raise ArtefactError(
                f"of {runs[0].out} and {run.out} one was asked through the chat template; pick one kind"
            )
    return runs


def scan(tables: Sequence[PathTable], asked: Sequence[Asked], paths: Sequence[LayerPath], *, quiet: bool) -> np.ndarray:
    """[Q, P] quality of all paths on all questions, evaluated where it is not known."""
    with _Watch("single edits", len(asked), quiet=quiet) as watch:
        for index, table in enumerate(tables):
            table.evaluate([entry.question for entry in asked if entry.run == index], paths, watch)
    return scores_of(tables, asked, paths).quality


class Models:
    """The runs' model, loaded when something first has to be evaluated.

    Args:
        run: one of them.
        options: device, dtype and threads.

    Attributes:
        dtype: in which paths are evaluated.
    """

    def __init__(self, run: SearchedRun, options: StaticOptions):
        self._run = run
        self._options = options
        self.dtype = options.dtype or run.dtype

    @cached_property
    def model(self) -> PathModel:
        """The model.

        Raises:
            ArtefactError: its name stands for other weights now.
        """
        import torch

        from ..engine.path_model import PathModel
        from ..models.devices import default_device

        if self._options.threads is not None:
            torch.set_num_threads(self._options.threads)
        info = self._run.info
        name = self._options.model or info.model_id
        resolve_recorded(name, info.fingerprint, self._run.out)
        device = self._options.device or default_device()
        return PathModel.from_pretrained(name, dtype=self.dtype, device=device)

    def evaluator_of(self, run: SearchedRun) -> Callable[[], Evaluator]:
        """Gives the evaluator of a run's task, always the same one."""
        made: list[Evaluator] = []

        def give() -> Evaluator:
            if not made:
                from ..evaluation.evaluator import Evaluator

                made.append(Evaluator(self.model, find_task(run.info.task), chat=run.chat))
            return made[0]

        return give


def race(
    tables: Sequence[PathTable], asked: Sequence[Asked], paths: Sequence[LayerPath], options: StaticOptions
) -> list[LayerPath]:
    """Evaluate the paths on the questions, dropping on the way those that fall behind for good.

    Returns:
        Those that stayed to the end, and so were evaluated on all questions.
    """
    full = LayerPath.full(len(paths[0]))
    left = list(paths)
    with _Watch(f"{len(paths)} paths", len(asked), quiet=options.quiet) as watch:
        for start in range(0, len(asked), RACE_EVERY_QUESTIONS):
            block = asked[start : start + RACE_EVERY_QUESTIONS]
            for index, table in enumerate(tables):
                table.evaluate([entry.question for entry in block if entry.run == index], left, watch)
            seen = asked[: start + len(block)]
            if len(seen) < len(asked):
                quality = scores_of(tables, seen, left).quality
                stays = survivors(quality, np.array([path.depth for path in left]), left.index(full))
                left = [path for path, stay in zip(left, stays, strict=True) if stay]
    return left


class _Watch:
    """Progress over questions; called as `PathTable.evaluate` tells it.

    Args:
        what: is evaluated on them.
        total: questions.
        quiet: show nothing.
    """

    def __init__(self, what: str, total: int, *, quiet: bool):
        self._view = ProgressView(f"evaluating {what}", total, quiet=quiet)
        self._done, self._evaluated, self._started = 0, 0, time.monotonic()

    def __enter__(self) -> _Watch:
        self._view.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._view.__exit__(*error)

    def __call__(self, questions: int, evaluations: int) -> None:
        """So many more questions are done, by so many new evaluations."""
        self._done += questions
        self._evaluated += questions if evaluations else 0
        self._view.update(self._done, 0, self._evaluated / max(time.monotonic() - self._started, 1e-9), {})


def scores_of(tables: Sequence[PathTable], asked: Sequence[Asked], paths: Sequence[LayerPath]) -> Scores:
    """What is known of the paths, one row a question in the order asked."""
    rows = [[row for row, entry in enumerate(asked) if entry.run == index] for index in range(len(tables))]
    parts = [
        table.scores([asked[row].question for row in mine], paths) for table, mine in zip(tables, rows, strict=True)
    ]
    order = np.argsort(np.concatenate([np.array(mine, dtype=np.int64) for mine in rows]))
    return Scores.stack(parts).of(order)
