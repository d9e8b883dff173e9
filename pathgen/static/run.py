"""`pathgen static`: measure single edits on some questions, propose paths by them, race those on the others, choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArtefactError, InputError
from ..evaluation.answer_book import AnswerBook, OnProgress, Scores, answering
from ..evaluation.answer_file import AnswerFile
from ..models.resolving import resolve_recorded
from ..paths.layer_path import LayerPath
from ..questions.tasks import find_task
from ..store.files import check_writable, open_folder, parent, put
from ..store.run_reader import SearchedRun
from .candidates import propose
from .choice import choose_paths
from .draw import Asked, draw_folds, draw_questions, taking_part
from .effects import Effects, scanned_paths
from .options import StaticOptions
from .selection import survivors
from .static_paths import StaticPaths

if TYPE_CHECKING:
    from ..engine.path_model import PathModel
    from ..evaluation.evaluator import Evaluator

ANSWERS_FOLDER = "static"
"""Of a run's folder: what was evaluated beyond its search."""
FORMAT_VERSION = 1
RACE_EVERY_QUESTIONS = 75
"""Candidates are dropped after each so many questions."""


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
    books = [open_book(run, models.dtype, partial(models.evaluator_of, run)) for run in runs]
    with answering("evaluating single edits", len(scanned), quiet=options.quiet) as on_progress:
        quality = scores_of(books, scanned, scanned_paths(runs[0].num_layers), on_progress).quality
    paths = race(books, judged, propose(Effects.measure(quality), options.candidates), quiet=options.quiet)
    scores = scores_of(books, judged, paths)
    run_of = np.array([entry.run for entry in judged])
    shas = [entry.question.sha for entry in (*scanned, *judged)]
    found = choose_paths(runs, run_of, folds, paths, scores, options.seed, shas)
    put(out_fs, out_path, found.to_json())
    return found


def load_runs(options: StaticOptions, wanted: Callable[[str], bool] = lambda question_id: True) -> list[SearchedRun]:
    """The runs of --paths, with the questions that take part.

    Raises:
        InputError: a folder given twice, or as `SearchedRun.load`.
        ArtefactError: as that, or runs of different models or prompt formats.
    """
    if len(set(options.paths)) < len(options.paths):
        raise InputError("--paths names a folder twice")
    runs = [
        SearchedRun.load(folder, lambda searched: taking_part(searched, options.limit, options.seed, wanted))
        for folder in options.paths
    ]
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


def open_book(run: SearchedRun, dtype: str, make_evaluator: Callable[[], Evaluator]) -> AnswerBook:
    """The answers to a run's questions: those of its search, and those that earlier calls have kept in its folder.

    Args:
        run: whose questions.
        dtype: in which paths are evaluated; what the run's search evaluated in another is not used.
        make_evaluator: of the run's task, with its chat setting.
    """
    fs, root = open_folder(run.out)
    origin = [FORMAT_VERSION, run.info.fingerprint, run.info.settings["task"], dtype]
    digest = hashlib.blake2b(json.dumps(origin, sort_keys=True).encode(), digest_size=8).hexdigest()
    file = AnswerFile(fs, f"{root}/{ANSWERS_FOLDER}/{digest}.parquet", run.num_layers)
    book = AnswerBook(find_task(run.info.task), make_evaluator, file=file)
    if dtype == run.dtype:
        imported = "imported" in run.info.settings
        for sha, evaluations in run.evaluations.items():
            # Of another program there may be a verdict alone: without a margin it is no quality, so it is run here.
            book.learn(sha, (one for one in evaluations if one.margin is not None or not imported))
    return book


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

    def evaluator_of(self, run: SearchedRun) -> Evaluator:
        """The model on a run's task."""
        from ..evaluation.evaluator import Evaluator

        return Evaluator(self.model, find_task(run.info.task), chat=run.chat)


def race(
    books: Sequence[AnswerBook], asked: Sequence[Asked], paths: Sequence[LayerPath], *, quiet: bool
) -> list[LayerPath]:
    """Evaluate the paths on the questions, dropping on the way those that fall behind for good.

    Returns:
        Those that stayed to the end, and so were evaluated on all questions.
    """
    full = LayerPath.full(len(paths[0]))
    left = list(paths)
    with answering(f"evaluating {len(paths)} paths", len(asked), quiet=quiet) as on_progress:
        for end in range(RACE_EVERY_QUESTIONS, len(asked) + RACE_EVERY_QUESTIONS, RACE_EVERY_QUESTIONS):
            scores_of(books, asked[end - RACE_EVERY_QUESTIONS : end], left, on_progress)
            if end < len(asked):
                quality = scores_of(books, asked[:end], left).quality
                stays = survivors(quality, np.array([path.depth for path in left]), left.index(full))
                left = [path for path, stay in zip(left, stays, strict=True) if stay]
    return left


def scores_of(
    books: Sequence[AnswerBook],
    asked: Sequence[Asked],
    paths: Sequence[LayerPath],
    on_progress: OnProgress = lambda questions, evaluations: None,
) -> Scores:
    """[Q, P] scores of all paths, one row a question in the order asked; what is not known yet runs first."""
    rows = [[row for row, entry in enumerate(asked) if entry.run == index] for index in range(len(books))]
    parts = [
        book.scores([asked[row].question for row in mine], paths, on_progress)
        for book, mine in zip(books, rows, strict=True)
    ]
    order = np.argsort(np.concatenate([np.array(mine, dtype=np.int64) for mine in rows]))
    return Scores.stack(parts).of(order)
