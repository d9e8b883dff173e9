"""How often a verdict depends on the precision of the model, or on what else was in the batch.

    OMP_NUM_THREADS=1 python -m benchmarks.findings.precision --questions arc_easy.jsonl [--task arc] [--dtype bfloat16]

Runs the full path and random paths of 1 to 4 edits on the same questions three times: in float32, in the narrow dtype
with many questions in a batch, and in the narrow dtype with one path a batch. Told are the shares of verdicts (and of
chosen answers) that differ, and the margins at which they do: a verdict cannot be trusted where the margin is smaller
than the noise. A path that only a narrow dtype finds right is a reward for the noise, so `mended` counts the questions
that full depth answers wrong and that some path answers right, in the narrow dtype alone and in both.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.lab.measurement import machine, run_script, share
from cluster.program.console import print_json
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, seeded_hash
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task

Asked = list[tuple[Question, LayerPath]]


def evaluated(evaluator: Evaluator, asked: Asked, batch: int) -> list[Evaluation]:
    """The evaluations, so many pairs at a time; nothing is kept from one batch to the next."""
    prepared = {question.id: evaluator.prepare(question) for question, _ in asked}
    pairs = [(prepared[question.id], path) for question, path in asked]
    found: list[Evaluation] = []
    for start in range(0, len(pairs), batch):
        found += evaluator.evaluate(pairs[start : start + batch])
    return found


def compared(first: list[Evaluation], second: list[Evaluation]) -> dict[str, Any]:
    """Verdicts and chosen answers that differ between two runs, and the first's margins where they do, in nats."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.margin is not None and b.margin is not None]
    gaps = np.array([abs(a.margin - b.margin) for a, b in pairs if a.margin is not None and b.margin is not None])
    at = np.array([abs(a.margin) for a, b in pairs if a.correct != b.correct and a.margin is not None])
    chosen = sum(int(np.argmax(a.choice_scores or ()) != np.argmax(b.choice_scores or ())) for a, b in pairs)
    return {
        "verdicts_differ": share(len(at), len(pairs)),
        "answers_differ": share(chosen, len(pairs)),
        "margin_gap_nats": quantiles(gaps),
        "margin_where_verdicts_differ_nats": quantiles(at),
    }


def quantiles(values: NDArray[np.float64]) -> dict[str, float] | None:
    """Median, 95 % quantile and largest; None of nothing."""
    if not len(values):
        return None
    return {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95)), "largest": float(values.max())}


def mended(asked: Asked, wide: list[Evaluation], narrow: list[Evaluation]) -> dict[str, int]:
    """Questions wrong at full depth in the narrow dtype, and those with a right path there and in float32 too."""
    wrong = {q.id for (q, path), one in zip(asked, narrow, strict=True) if not path.edits and not one.correct}
    rows = [(q.id, a.correct, b.correct) for (q, _), a, b in zip(asked, wide, narrow, strict=True) if q.id in wrong]
    return {
        "wrong": len(wrong),
        "mended": len({key for key, _, right in rows if right}),
        "mended_in_float32_by_the_same_path": len({key for key, in_wide, right in rows if in_wide and right}),
    }


def main(
    questions: Annotated[str, typer.Option(help="A local file, a hub dataset or `builtin`.")] = "builtin",
    model: Annotated[str, typer.Option(help="Alias, folder or hub id.")] = "smollm2-135m",
    task: Annotated[str, typer.Option(help="`arc` or `arc-letter`.")] = "arc",
    dtype: Annotated[str, typer.Option(help="The narrow one.")] = "bfloat16",
    limit: Annotated[int, typer.Option(min=1, help="The first N questions.")] = 40,
    paths: Annotated[int, typer.Option(min=0, help="Random paths of each question, besides full depth.")] = 7,
    batch: Annotated[int, typer.Option(min=2, help="Pairs in a large batch.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="torch threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the paths.")] = 0,
) -> None:
    """Compare; the last line on stdout is one JSON document."""
    import torch

    from benchmarks.speed.scoring_ways import random_paths

    torch.set_num_threads(threads)
    loaded = load_questions(questions, needs="choices", limit=limit)
    found: dict[str, list[Evaluation]] = {}
    asked: Asked = []
    for kind in ("float32", dtype):
        path_model = PathModel.from_pretrained(model, dtype=kind)
        evaluator = Evaluator(path_model, find_task(task), keep_bytes=0)
        if not asked:
            full = LayerPath.full(path_model.num_layers)
            for question in loaded:
                rng = np.random.default_rng(seeded_hash(seed, question.id))
                asked += [(question, path) for path in (full, *random_paths(path_model.num_layers, paths, rng))]
        found[kind] = evaluated(evaluator, asked, batch)
        if kind == dtype:
            found["alone"] = evaluated(evaluator, asked, 1)
    print_json(
        {
            "benchmark": "precision",
            "machine": machine(threads),
            "model": model,
            "task": task,
            "dtype": dtype,
            "source": questions,
            "questions": len(loaded),
            "pairs": len(asked),
            "seed": seed,
            "against_float32": compared(found["float32"], found[dtype]),
            "between_batchings": compared(found[dtype], found["alone"]),
            "mended": mended(asked, found["float32"], found[dtype]),
        }
    )


if __name__ == "__main__":
    run_script(main)
