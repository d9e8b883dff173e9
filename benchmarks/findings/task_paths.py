"""Does each task want a static path of its own? The best path per task against one for all, out of fold.

    python -m benchmarks.findings.task_paths --path DIGITS [--path DIGITS] --paths ARC_EASY --paths ARC_CHALLENGE

The menu: full depth and the paths given. In each of five folds a path is chosen on the other folds' questions, by mean
quality: one for all tasks (each task counting alike), and one for each task; both are judged on the fold. A router that
told tasks apart perfectly would gain what the second has over the first.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.lab.digits import to_digits
from benchmarks.lab.measurement import ci95, machine, resamples, run_script
from benchmarks.lab.menu_data import load_menu
from benchmarks.lab.models import Model
from benchmarks.lab.ridge import assign_folds
from cluster.program.console import print_json

Array = NDArray[np.float64]


def chosen_out_of_fold(quality: Array, owner: NDArray[np.int_], folds: NDArray[np.int_], *, apart: bool) -> Array:
    """[Q] index of the path chosen for each question without its fold: of its task alone, or for all tasks."""
    chosen = np.empty(len(owner), dtype=int)
    tasks = np.unique(owner)
    for fold in np.unique(folds):
        means = np.array([quality[(folds != fold) & (owner == task)].mean(0) for task in tasks])
        for place, task in enumerate(tasks):
            by = means[place] if apart else means.mean(0)
            chosen[(folds == fold) & (owner == task)] = by.argmax()
    return chosen


def main(
    path: Annotated[list[str], typer.Option(help="A path of the menu, one digit a layer; may repeat.")],
    paths: Annotated[list[str], typer.Option(help="Run folders, one a task.")],
    model: Model = "smollm2-135m",
    folds: Annotated[int, typer.Option(help="Of the cross-validation.")] = 5,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(threads)
    menu = load_menu(path, paths, model)
    quality = menu.correct / 2 + 1 / (1 + np.exp(-menu.margin)) / 2
    assigned = assign_folds([question.id for question in menu.questions], folds)
    rows = np.arange(len(menu.questions))
    right = {
        name: menu.correct[rows, chosen_out_of_fold(quality, menu.folder, assigned, apart=apart)].astype(float)
        for name, apart in (("one for all", False), ("one per task", True))
    }
    rng = np.random.default_rng(seed)
    tasks = {}
    gains = []
    for index, folder in enumerate(paths):
        mine = menu.folder == index
        gain = (right["one per task"] - right["one for all"])[mine]
        gains.append(gain[resamples(len(gain), rng)].mean(1))
        tasks[folder.rstrip("/").rpartition("/")[2]] = {
            "questions": int(mine.sum()),
            "full": float(menu.correct[mine, 0].mean()),
            **{name: float(values[mine].mean()) for name, values in right.items()},
            "gain_ci95": ci95(gains[-1]),
        }
    print_json(
        {
            "benchmark": "task_paths",
            "menu": [to_digits(path) for path in menu.paths],
            "folds": folds,
            "seed": seed,
            "tasks": tasks,
            "macro_gain": float(np.mean([task["one per task"] - task["one for all"] for task in tasks.values()])),
            "macro_gain_ci95": ci95(np.mean(gains, axis=0)),
            "machine": machine(threads),
        }
    )


if __name__ == "__main__":
    run_script(main)
