"""Chooses static paths from scores, cross-validates the choice, and prints the result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

from ..evaluation.answer_book import Scores
from ..paths.layer_path import LayerPath
from ..store.run_reader import SearchedRun
from .options import StaticOptions
from .selection import Choice, choose_by_depth, difference_with_error
from .static_paths import (
    FolderResult,
    PathEntry,
    StaticPaths,
    Worth,
    gain_interval,
    most_accurate,
    or_full,
    shallow_enough,
)


def choose_paths(
    runs: Sequence[SearchedRun],
    run_of: np.ndarray,
    folds: np.ndarray,
    paths: Sequence[LayerPath],
    scores: Scores,
    seed: int,
    shas: Iterable[str],
) -> StaticPaths:
    """Choose among P paths, the full path included, and cross-validate the choice.

    `run_of` [Q] are indices of each question's run, `folds` [Q] its fold, drawn by the seed, and `scores` are [Q, P].
    `shas` are of all questions that took part, also those that only proposed paths.
    """
    entries = _entries(paths, scores, folds)
    full = scores.correct[:, _full(paths)]
    best, shallow = (held_out_choice(pick, paths, scores, folds) for pick in (most_accurate, shallow_enough))
    per_folder = []
    for index, run in enumerate(runs):
        mine = run_of == index
        own_path, own_accuracy = own_choice(mine, folds, paths, scores)
        result = FolderResult(
            run.out,
            run.info.task,
            questions=int(mine.sum()),
            full_accuracy=float(full[mine].mean()),
            choice_cv_accuracy=float(best[mine].mean()),
            choice_cv_delta_se=difference_with_error(best[mine], full[mine])[1],
            shallow_cv_accuracy=float(shallow[mine].mean()),
            own_path=own_path,
            own_cv_accuracy=own_accuracy,
        )
        per_folder.append(result)
    return StaticPaths(
        model_id=runs[0].info.model_id,
        fingerprint=runs[0].info.fingerprint,
        tasks=tuple(dict.fromkeys(run.info.task for run in runs)),
        chat=bool(runs[0].chat),
        num_layers=runs[0].num_layers,
        questions=len(folds),
        folds=len(np.unique(folds)),
        seed=seed,
        full=entries[-1],
        frontier=tuple(entries[:-1]),
        choice=_worth(best, full),
        shallow_choice=_worth(shallow, full),
        chosen_on=tuple(sorted(set(shas))),
        per_folder=tuple(per_folder),
    )


def static_text(found: StaticPaths, options: StaticOptions) -> None:
    """Print the result, and the next command."""
    console = Console(highlight=False)
    console.print(
        f"{found.model_id} on {', '.join(found.tasks)}: {found.questions:,} questions, {found.folds} folds; "
        f"full depth {found.full.accuracy:.1%}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("depth", "in sample", "held out", "vs. full"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("path (. run, - skip, 2 repeat)", no_wrap=True)
    table.add_column("", no_wrap=True)
    marks = {(True, True): "both", (True, False): "best", (False, True): "shallow", (False, False): ""}
    for entry in found.frontier:
        table.add_row(
            str(entry.depth),
            f"{entry.accuracy:.1%}",
            f"{entry.cv_accuracy:.1%}",
            "+0.0" if entry.path == found.full.path else _gain(entry, found.questions, found.seed),
            str(entry.path),
            marks[entry == found.best, entry == found.shallow],
        )
    console.print(table)
    console.print(
        "held out: the path of each depth is chosen on the other folds; brackets: 95 % intervals", soft_wrap=True
    )
    for name, entry, worth, reason in (
        ("best", found.best, found.choice, "no other path gains more than a standard error"),
        ("shallow", found.shallow, found.shallow_choice, "no shallower path is as good"),
    ):
        what = f"the full path ({reason})" if entry == found.full else f"depth {entry.depth}"
        console.print(
            f"{name}: {what}; held out, with the depth chosen on the other folds too: "
            f"{worth.cv_accuracy:.1%} ({_gain(worth, found.questions, found.seed)})",
            soft_wrap=True,
        )
    for result in found.per_folder if len(found.per_folder) > 1 else ():
        console.print(
            f"{result.folder} ({result.task}, {result.questions:,}): full {result.full_accuracy:.1%}, "
            f"best {result.choice_cv_accuracy:.1%} ({_gain(result.choice, result.questions, found.seed)}), "
            f"shallow {result.shallow_cv_accuracy:.1%}; "
            f"a path of its own {result.own_cv_accuracy:.1%} ({result.own_path})",
            soft_wrap=True,
        )
    paths = " ".join(f"--paths {shlex.quote(folder)}" for folder in options.paths)
    bridges = options.bridges_flag(of_runs=False)  # a router takes those of its runs by itself
    console.print(
        f"next: router train --method static --static {shlex.quote(options.out)} {paths}{bridges} --out ROUTER",
        soft_wrap=True,
    )


def held_out_choice(
    pick: Callable[[Sequence[PathEntry]], PathEntry], paths: Sequence[LayerPath], scores: Scores, folds: np.ndarray
) -> np.ndarray:
    """[Q] whether each question is right on the path whose depth and actions are chosen without its fold.

    `pick` chooses among the entries of all depths, shallowest first and the full path last, by accuracies that are
    cross-validated within the other folds (nested cross-validation; Varma and Simon 2006). So at least three folds are
    needed.
    """
    right = np.empty(len(folds), dtype=bool)
    for fold in np.unique(folds):
        held_out = folds == fold
        chosen = pick(_entries(paths, scores.of(~held_out), folds[~held_out]))
        right[held_out] = scores.correct[held_out, paths.index(chosen.path)]
    return right


def own_choice(
    mine: np.ndarray, folds: np.ndarray, paths: Sequence[LayerPath], scores: Scores
) -> tuple[LayerPath, float]:
    """The best path for the questions of the mask `mine` [Q] alone, and the held-out accuracy of choosing it."""
    own = scores.of(mine)
    worth = _worth(held_out_choice(most_accurate, paths, own, folds[mine]), own.correct[:, _full(paths)])
    return or_full(_entries(paths, own, folds[mine]), worth).path, worth.cv_accuracy


def _gain(worth: PathEntry | Worth, questions: int, seed: int) -> str:
    low, high = gain_interval(worth, questions, seed)
    return f"{100 * worth.cv_delta_vs_full:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _full(paths: Sequence[LayerPath]) -> int:
    return paths.index(LayerPath.full(len(paths[0])))


def _entries(paths: Sequence[LayerPath], scores: Scores, folds: np.ndarray) -> list[PathEntry]:
    """The best path of each depth, shallowest first; the full path last."""
    full = _full(paths)
    right = scores.correct
    depths = np.array([path.depth for path in paths])
    choices = choose_by_depth(scores.quality, depths, folds)
    choices.append(Choice(int(depths[full]), full, np.full(len(folds), full)))
    return [
        PathEntry(
            paths[choice.path],
            accuracy=float(right[:, choice.path].mean()),
            quality=float(scores.quality[:, choice.path].mean()),
            **asdict(_worth(right[np.arange(len(folds)), choice.held_out], right[:, full])),
        )
        for choice in choices
    ]


def _worth(right: np.ndarray, full: np.ndarray) -> Worth:
    delta, error = difference_with_error(right, full)
    return Worth(float(right.mean()), delta, error)
