"""From scores to what `pathgen static` tells: the frontier with its cross-validated worth, and its table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from .actions import LayerPath
from .path_table import Scores
from .searched_run import SearchedRun
from .selection import Choice, choose_by_depth, paired_difference
from .static import FolderResult, PathEntry, StaticPaths


def choose_paths(
    runs: Sequence[SearchedRun],
    run_of: np.ndarray,
    folds: np.ndarray,
    paths: Sequence[LayerPath],
    scores: Scores,
    seed: int,
) -> StaticPaths:
    """Choose among paths, and say what the choice is worth.

    Args:
        runs: of one model.
        run_of: [Q] index of the run that each question is of.
        folds: [Q] number of its fold.
        paths: the P candidates that are still in the race, the full path among them.
        scores: [Q, P] of them, every path evaluated on every question.
        seed: that the folds were drawn with.
    """
    correct, quality = scores.correct, scores.quality
    depths = np.array([path.depth for path in paths])
    full = paths.index(LayerPath.full(runs[0].num_layers))
    choices = [
        *choose_by_depth(quality, depths, folds),
        Choice(int(depths[full]), full, np.full(len(folds), full)),
    ]
    entries = [_entry(choice, paths, correct, quality, full) for choice in choices]
    found = StaticPaths(
        model_id=runs[0].info.model_id,
        fingerprint=runs[0].info.fingerprint,
        tasks=tuple(dict.fromkeys(run.info.task for run in runs)),
        chat=runs[0].chat,
        num_layers=runs[0].num_layers,
        questions=len(folds),
        folds=len(np.unique(folds)),
        seed=seed,
        full=entries[-1],
        frontier=tuple(entries[:-1]),
    )
    held_out = {entry: _held_out(choice, correct) for entry, choice in zip(entries, choices, strict=True)}
    return replace(
        found,
        per_folder=tuple(
            _folder(
                run,
                run_of == index,
                correct[:, full],
                held_out[found.best],
                held_out[found.shallow],
                own_choice(run_of == index, folds, paths, scores),
            )
            for index, run in enumerate(runs)
        ),
    )


def static_text(found: StaticPaths, folders: Sequence[str], out: str) -> None:
    """Print what was found, and the next command."""
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
            f"{100 * entry.cv_delta_vs_full:+.1f} ± {100 * entry.cv_delta_se:.1f}",
            str(entry.path),
            marks[entry == found.best, entry == found.shallow],
        )
    console.print(table)
    console.print("held out: chosen without the questions they are judged on; ± standard error")
    for name, entry in (("best", found.best), ("shallow", found.shallow)):
        if entry == found.full:
            console.print(f"{name}: the full path; no other is as good")
    for result in found.per_folder if len(found.per_folder) > 1 else ():
        console.print(
            f"{result.folder} ({result.task}, {result.questions:,}): full {result.full_accuracy:.1%}, "
            f"best {result.best_cv_accuracy:.1%} ± {result.best_cv_delta_se:.1%}, "
            f"shallow {result.shallow_cv_accuracy:.1%}; "
            f"a path of its own {result.own_cv_accuracy:.1%} ({result.own_path})",
            soft_wrap=True,
        )
    paths = " ".join(f"--paths {shlex.quote(folder)}" for folder in folders)
    console.print(
        f"next: router train --method static --static {shlex.quote(out)} {paths} --out ROUTER", soft_wrap=True
    )


def own_choice(
    mine: np.ndarray, folds: np.ndarray, paths: Sequence[LayerPath], scores: Scores
) -> tuple[LayerPath, float]:
    """The best path for some questions alone, and the accuracy of choosing it without the questions it is judged on.

    Args:
        mine: [Q] which questions.
        folds: [Q] number of each question's fold.
        paths: the P candidates.
        scores: [Q, P] of them.
    """
    depths = np.array([path.depth for path in paths])
    correct = scores.correct[mine]
    choices = choose_by_depth(scores.quality[mine], depths, folds[mine])
    worth = [float(_held_out(choice, correct).mean()) for choice in choices]
    best = max(range(len(choices)), key=lambda index: (worth[index], -choices[index].depth))
    return paths[choices[best].path], worth[best]


def _held_out(choice: Choice, correct: np.ndarray) -> np.ndarray:
    """[Q] whether each question is right on the path that was chosen without it."""
    return correct[np.arange(len(correct)), choice.held_out]


def _entry(
    choice: Choice, paths: Sequence[LayerPath], correct: np.ndarray, quality: np.ndarray, full: int
) -> PathEntry:
    held_out = _held_out(choice, correct)
    delta, error = paired_difference(held_out, correct[:, full])
    return PathEntry(
        paths[choice.path],
        accuracy=float(correct[:, choice.path].mean()),
        quality=float(quality[:, choice.path].mean()),
        cv_accuracy=float(held_out.mean()),
        cv_delta_vs_full=delta,
        cv_delta_se=error,
    )


def _folder(
    run: SearchedRun,
    mine: np.ndarray,
    full: np.ndarray,
    best: np.ndarray,
    shallow: np.ndarray,
    own: tuple[LayerPath, float],
) -> FolderResult:
    return FolderResult(
        run.out,
        run.info.task,
        questions=int(mine.sum()),
        full_accuracy=float(full[mine].mean()),
        best_cv_accuracy=float(best[mine].mean()),
        best_cv_delta_se=paired_difference(best[mine], full[mine])[1],
        shallow_cv_accuracy=float(shallow[mine].mean()),
        own_path=own[0],
        own_cv_accuracy=own[1],
    )
