"""Can the prompt tell which static path suits which question? Regression of a menu's margins, with its controls.

    python -m benchmarks.findings.conditional --questions Q.jsonl [--questions R.jsonl] --scores FILE [--menu DIGITS]

The menu: full depth and the paths of --menu, one digit a layer, or else the single edits of `interaction.py`. What each
path does to a question's margin (clipped, against full depth) is regressed on the prompt's hidden states, out of fold,
after the mean of each question file is taken off, as the file a question is from may be no news. Bridges of --bridges
run where the paths skip. With --without-full no question takes full depth, so a menu of one depth stays at that depth.
Told: R² of the interaction for each block of features, and what choosing by it would gain over the best path of the
menu in the same folds, at several coverages (deviate only for the questions of largest predicted gain), against the
same choices dealt to other questions of the fold.

Controls: features of noise, labels permuted, and a planted effect (0.3 standard deviations on one path where a known
feature is high) that the pipeline must find.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.bridges.paths import choice_task
from benchmarks.findings.interaction import edits, effects_of
from benchmarks.lab.digits import from_digits, to_digits
from benchmarks.lab.measurement import ci95, machine, resamples, run_script
from benchmarks.lab.menu_data import prompt_states
from benchmarks.lab.models import Model, model_title
from benchmarks.lab.path_scores import PathScores
from benchmarks.lab.ridge import Array, assign_folds, centred, explained, out_of_fold
from cluster.program.console import print_json
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions

COVERAGES = (0.05, 0.1, 0.2, 0.5, 1.0)
SHUFFLES = 2000
PLANTED_SD = 0.3


def chosen_gain(
    predicted: Array, effects: Array, correct: NDArray[np.bool_], folds: NDArray[np.int_], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Accuracy of deviating from the best static path where the predicted gain is largest, by coverage.

    Args:
        predicted: [Q, P] out of fold, of the interaction.
        effects: [Q, P] true effects on the margin.
        correct: [Q, P].
        folds: [Q]; the best static path is chosen on the other folds.
        rng: of the shuffles and intervals.
    """
    count = len(folds)
    draws = resamples(count, rng)
    static = np.empty(count, dtype=int)
    picks = np.empty(count, dtype=int)
    gains = np.empty(count)
    for fold in np.unique(folds):
        held = folds == fold
        static[held] = correct[~held].mean(0).argmax()
        total = predicted[held] + effects[~held].mean(0)
        picks[held] = total.argmax(1)
        gains[held] = total.max(1) - np.take_along_axis(total, static[held][:, None], 1)[:, 0]
    rows = np.arange(count)
    base = correct[rows, static]
    found = []
    for coverage in COVERAGES:
        deviates = gains >= np.quantile(gains, 1 - coverage)
        taken = np.where(deviates, picks, static)
        delta = float(correct[rows, taken].mean() - base.mean())
        gained = correct[rows, taken].astype(float) - base
        luck = np.empty(count)  # of a deal; within a fold, as folds that choose alike err alike
        dealt = np.tile(rows, (SHUFFLES, 1))
        for fold in np.unique(folds):
            held = np.flatnonzero(folds == fold)
            luck[held] = correct[held] @ np.bincount(taken[held], minlength=correct.shape[1]) / len(held)
            dealt[:, held] = rng.permuted(dealt[:, held], axis=1)
        shuffled = correct[rows, taken[dealt]].mean(1) - base.mean()
        read = correct[rows, taken] - luck
        found.append(
            {
                "coverage": coverage,
                "delta_vs_static": delta,
                "delta_vs_static_ci95": ci95(gained[draws].mean(1)),
                "shuffled": float(np.mean(shuffled)),
                "delta_vs_shuffled": float(read.mean()),
                "delta_vs_shuffled_ci95": ci95(read[draws].mean(1)),
                "p_value": float(np.mean(shuffled >= delta)),
            }
        )
    return found


def within_files(values: Array, owners: NDArray[np.int_]) -> Array:
    """[Q, D] without what is common to the questions of one file: file means off, the mean of all back on."""
    counts = np.bincount(owners)[:, None]
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, owners, values)
    return values - (sums / counts)[owners] + values.mean(0)


def blocks(states: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """The features by name, with one block of noise."""
    width = next(iter(states.values())).shape[1]
    rows = len(next(iter(states.values())))
    return {**states, "noise (control)": rng.normal(size=(rows, width))}


def main(
    questions: Annotated[list[str], typer.Option(help="Question file; may repeat.")],
    scores: Annotated[Path, typer.Option(help="File of scores, added to.")],
    menu: Annotated[list[str] | None, typer.Option(help="Path beside full depth; may repeat.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each file.")] = None,
    model: Model = "smollm2-135m",
    task: Annotated[str, typer.Option(help="arc or arc-letter.")] = "arc",
    num_layers: Annotated[int, typer.Option(help="Of the model.")] = 30,
    folds: Annotated[int, typer.Option(help="Of the cross-validation.")] = 5,
    bridges: Annotated[Path | None, typer.Option(help="Folder of bridges.")] = None,
    without_full: Annotated[bool, typer.Option("--without-full", help="Choose among the menu's paths alone.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Of controls and shuffles.")] = 0,
) -> None:
    """Print one JSON object."""
    torch.set_num_threads(1)
    asked_as = choice_task(task)
    files = [load_questions(file, needs="choices", limit=limit) for file in questions]
    asked = [question for file in files for question in file]
    chosen = [from_digits(digits) for digits in menu or ()]
    paths = [LayerPath.full(num_layers), *(chosen or edits(num_layers))]
    table = PathScores(scores, model, workers, bridges)
    table.compute(task, dict.fromkeys(asked, paths))
    margins = table.margins(task, asked, paths)
    choosable = slice(1 if without_full else 0, None)
    correct = margins[:, choosable] > 0
    rng = np.random.default_rng(seed)
    states = prompt_states(model, asked, asked_as)
    owners = np.repeat(np.arange(len(files)), [len(file) for file in files])
    effects = within_files(effects_of(margins)[:, choosable], owners)
    states = {name: within_files(block, owners) for name, block in states.items()}
    assigned = assign_folds([question.sha for question in asked], folds)
    interaction = centred(effects)
    report: dict[str, Any] = {}
    for name, features in blocks(states, rng).items():
        predicted = out_of_fold(features, interaction, assigned)
        report[name] = {
            "r2": explained(predicted, interaction),
            "choices": chosen_gain(predicted, effects, correct, assigned, rng),
        }
    first = next(iter(states.values()))
    permuted = interaction[rng.permutation(len(interaction))]
    planted, truth = interaction.copy(), np.zeros_like(interaction)
    known = first[:, 0] > np.median(first[:, 0])
    truth[known, 1] = PLANTED_SD * interaction.std()
    found = out_of_fold(first, centred(planted + truth), assigned)
    print_json(
        {
            "benchmark": "conditional",
            "model": model_title(model),
            "task": task,
            "questions": {Path(name).name: len(file) for name, file in zip(questions, files, strict=True)},
            "menu": [to_digits(path) for path in paths],
            "accuracies": (margins > 0).mean(0).tolist(),
            "bridges": None if bridges is None else bridges.name,
            "without_full": without_full,
            "seed": seed,
            "blocks": report,
            "permuted_labels_r2": explained(out_of_fold(first, permuted, assigned), permuted),
            "planted": {
                "sd": PLANTED_SD,
                "r2_of_its_path": explained(found[:, [1]], centred(planted + truth)[:, [1]]),
                "r2_without": explained(out_of_fold(first, interaction, assigned)[:, [1]], interaction[:, [1]]),
                "correlation_with_planted": (met := float(np.corrcoef(found[:, 1], truth[:, 1])[0, 1])),
                "standard_errors": met * len(asked) ** 0.5,
            },
            "machine": machine(1),
        }
    )


if __name__ == "__main__":
    run_script(main)
