"""Is it predictable which single edit helps which question? The reliability of that interaction across two wordings.

    python -m benchmarks.findings.interaction --questions Q.jsonl --limit 300 --scores FILE

Scores single edits on the same questions under two wordings of the prompt. An edit's effect on a question is the
change of its margin (clipped) against full depth under the same wording. Effects are centred over questions and over
edits; what is left is the question-by-edit interaction, the only thing a router could use beyond the best static path.
Its correlation across wordings bounds what any predictor of it can explain. Null: questions of one wording permuted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.lab.measurement import ci95, machine, resamples, run_script
from benchmarks.lab.models import Model
from benchmarks.lab.path_scores import WORDINGS, PathScores
from benchmarks.lab.ridge import centred
from cluster.program.console import print_json
from pathgen.paths.layer_path import LayerPath
from pathgen.questions.loading import load_questions
from pathgen.static.candidates import scanned_paths

CLIP_NATS = 4.0
DRAWS = 1000
"""Of the null and of the bootstrap."""


def edits(num_layers: int) -> list[LayerPath]:
    """Half of all single edits: skips of the even layers and repeats of the odd ones."""
    _, *singles = scanned_paths(num_layers)
    return [singles[layer + num_layers * (layer % 2)] for layer in range(num_layers)]


def effects_of(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """[Q, P] margins, full depth first, to [Q, P] clipped changes against full depth, in nats."""
    return np.clip(margins - margins[:, :1], -CLIP_NATS, CLIP_NATS)


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's, over all entries."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def main(
    questions: Annotated[str, typer.Option(help="Question file.")],
    scores: Annotated[Path, typer.Option(help="File of scores, added to.")],
    limit: Annotated[int, typer.Option(help="Questions.")] = 300,
    model: Model = "smollm2-135m",
    num_layers: Annotated[int, typer.Option(help="Of the model.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the permutations and the bootstrap.")] = 0,
) -> None:
    """Print one JSON object."""
    asked = load_questions(questions, needs="choices", limit=limit)
    paths = [LayerPath.full(num_layers), *edits(num_layers)]
    table = PathScores(scores, model)
    margins = {}
    for name in WORDINGS:
        table.compute(name, dict.fromkeys(asked, paths))
        margins[name] = table.margins(name, asked, paths)
    first, second = (centred(effects_of(margins[name])[:, 1:]) for name in WORDINGS)
    rng = np.random.default_rng(seed)
    count = len(asked)
    null = [correlation(first, second[rng.permutation(count)]) for _ in range(DRAWS)]
    boot = [correlation(first[rows], second[rows]) for rows in resamples(count, rng, DRAWS)]
    base = [margins[name][:, 0] for name in WORDINGS]
    gains = {name: ((value > 0).mean(0)[1:] - (value[:, 0] > 0).mean()) for name, value in margins.items()}
    print_json(
        {
            "benchmark": "interaction",
            "questions": count,
            "edits": len(paths) - 1,
            "seed": seed,
            "full_accuracy": {name: float((value[:, 0] > 0).mean()) for name, value in margins.items()},
            "reliability": correlation(first, second),
            "reliability_ci95": ci95(boot),
            "null_95_quantile": float(np.quantile(null, 0.95)),
            "base_margin_correlation": float(np.corrcoef(*base)[0, 1]),
            "edit_mean_gain_correlation": float(np.corrcoef(*gains.values())[0, 1]),
            "interaction_sd_nats": float(first.std()),
            "machine": machine(1),
        }
    )


if __name__ == "__main__":
    run_script(main)
