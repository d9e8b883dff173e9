"""`pathgen static`: measures single edits on some questions, proposes paths, races them on the others, and chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from fsspec import AbstractFileSystem

from cluster.program.progress import counted

from ..errors import ArtefactError, InputError
from ..evaluation.answer_book import AnswerBook, OnProgress, Scores
from ..evaluation.answer_file import AnswerFile
from ..identity import difference_told, differences, shown
from ..models.facts import shares_keys
from ..paths.layer_path import LayerAction, LayerPath
from ..store.files import check_writable, open_folder, parent, put
from ..store.run_reader import SearchedRun
from .candidates import Effects, propose, scanned_paths
from .choice import choose_paths
from .draw import Asked, draw_folds, draw_questions, taking_part
from .options import StaticOptions
from .placed_model import bridges_info, load_placed, resolved
from .selection import survivors
from .static_paths import StaticPaths

if TYPE_CHECKING:
    from ..engine.path_model import PathModel
    from ..evaluation.evaluator import Evaluator

ANSWERS_FOLDER = "static"
"""In a run's folder: the evaluations made after its search."""
FORMAT_VERSION = 1
RACE_EVERY_QUESTIONS = 75
"""Candidates are dropped each time after so many questions."""


def find_static_paths(options: StaticOptions, wanted: Callable[[str], bool] = lambda question_id: True) -> StaticPaths:
    """Find the static paths, and write them to `options.out`. Only questions with a wanted id take part.

    Raises:
        InputError: a folder holds no run or nothing searched, or the output file cannot be written.
        TooFewQuestions: a folder has too few questions to judge paths by.
        ArtefactError: runs of different models, a damaged run, bridges of another model, or the model now has other
            weights.
    """
    out_fs, out_path = open_out(options.out)
    runs = load_runs(options, wanted)
    scanned, judged = draw_questions(runs, options.seed)
    folds = draw_folds(runs, judged, options.folds)
    check_writable(out_fs, parent(out_path), f"--out {options.out}")
    dtype = options.dtype or runs[0].dtype
    placed = bridges_info(options, runs[0].info.fingerprint, runs[0])
    bridges = placed.digest if placed else None
    model = cache(partial(load_model, runs[0], options, dtype))
    pinned = model().pinned_layers if shares_keys(resolved(options, runs[0])[1]) else ()
    books = [open_book(run, dtype, partial(evaluator_of, run, model), bridges) for run in runs]
    with counted("evaluating single edits", len(scanned), quiet=options.quiet) as on_progress:
        quality = scores_of(books, scanned, scanned_paths(runs[0].num_layers, pinned), on_progress).quality
    paths = race(books, judged, propose(Effects.measure(quality, pinned), options.candidates), quiet=options.quiet)
    scores = scores_of(books, judged, paths)
    run_of = np.array([entry.run for entry in judged])
    shas = [entry.question.sha for entry in (*scanned, *judged)]
    found = replace(choose_paths(runs, run_of, folds, paths, scores, options.seed, shas), bridges=bridges)
    put(out_fs, out_path, found.to_json())
    return found


def open_out(out: str) -> tuple[AbstractFileSystem, str]:
    """The file system and the path of the file to write; InputError if it is a folder, and as `open_folder`."""
    fs, path = open_folder(out)
    if fs.isdir(path):
        raise InputError(f"--out {out} is a folder; give a file, for example {out}/static.json")
    return fs, path


def load_runs(options: StaticOptions, wanted: Callable[[str], bool] = lambda question_id: True) -> list[SearchedRun]:
    """The runs of --paths, with the questions that take part. Errors as `SearchedRun.load`.

    Raises:
        InputError: a folder is given twice.
        ArtefactError: runs of different models or prompt formats.
    """
    if len(set(options.paths)) < len(options.paths):
        raise InputError("--paths names a folder twice")
    runs = [
        SearchedRun.load(folder, lambda searched: taking_part(searched, options.limit, options.seed, wanted))
        for folder in options.paths
    ]
    for run in runs[1:]:
        mine, its = runs[0].info.fingerprint, run.info.fingerprint
        if differences(mine, its):
            raise ArtefactError(
                f"{run.out} is of model {run.info.model_id} ({shown(its)}), {runs[0].out} of "
                f"{runs[0].info.model_id} ({shown(mine)}), and {difference_told(its, mine, 'that')}; one path "
                "serves one model: run them separately"
            )
        if bool(run.chat) != bool(runs[0].chat):
            raise ArtefactError(
                f"only one of {runs[0].out} and {run.out} used the chat template; give runs of one prompt format"
            )
    return runs


def open_book(
    run: SearchedRun, dtype: str, make_evaluator: Callable[[], Evaluator], bridges: str | None = None
) -> AnswerBook:
    """The answers of a run's search, if it used this dtype, and those that earlier calls stored in its folder.

    `make_evaluator` is called for new evaluations. It must use the run's task and chat setting, and the bridges of
    this digest. Of a search with others, or with none, the evaluations of the full path serve: it skips nothing.
    """
    fs, root = open_folder(run.out)
    origin = [FORMAT_VERSION, run.info.fingerprint, run.info.settings["task"], dtype, *([bridges] if bridges else [])]
    digest = hashlib.blake2b(json.dumps(origin, sort_keys=True).encode(), digest_size=8).hexdigest()
    file = AnswerFile(fs, f"{root}/{ANSWERS_FOLDER}/{digest}.parquet", run.num_layers)
    book = AnswerBook(run.info.asked_task, make_evaluator, file=file)
    if dtype == run.dtype:
        imported = "imported" in run.info.settings
        bridged_alike = run.info.settings.get("bridges") == bridges
        for sha, evaluations in run.evaluations.items():
            # Another program may store a verdict without a margin. That gives no quality, so the path runs again here.
            usable = [one for one in evaluations if one.margin is not None or not imported]
            book.learn(sha, (one for one in usable if bridged_alike or LayerAction.SKIP not in one.path))
    return book


def load_model(run: SearchedRun, options: StaticOptions, dtype: str) -> PathModel:
    """The model of a run, with the bridges of the options; ArtefactError if its name now stands for other weights."""
    name, _ = resolved(options, run)
    return load_placed(name, run.info.fingerprint, options, dtype, run)


def evaluator_of(run: SearchedRun, model: Callable[[], PathModel]) -> Evaluator:
    """The evaluator for a run's task."""
    from ..evaluation.evaluator import Evaluator

    return Evaluator(model(), run.info.asked_task, chat=run.chat)


def race(
    books: Sequence[AnswerBook], asked: Sequence[Asked], paths: Sequence[LayerPath], *, quiet: bool
) -> list[LayerPath]:
    """Evaluate the paths on the questions, drop those that fall behind, and return the others."""
    full = LayerPath.full(len(paths[0]))
    left = list(paths)
    with counted(f"evaluating {len(paths)} paths", len(asked), quiet=quiet) as on_progress:
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
    """[Q, P] scores of all paths on the questions, in their order; missing evaluations run first."""
    parts = [
        book.scores([entry.question for entry in asked if entry.run == index], paths, on_progress)
        for index, book in enumerate(books)
    ]
    by_run = np.argsort([entry.run for entry in asked], kind="stable")
    return Scores.stack(parts).of(np.argsort(by_run))
