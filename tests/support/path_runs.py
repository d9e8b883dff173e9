"""Small real run folders of hand-made records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_shard

ACTIONS = "-.2"
"""Of paths as text: skipped, executed, repeated."""
FINGERPRINT = "f" * 16
ROWS_PER_SHARD = 2
QUESTION_FIELDS = {"prompt", "choices", "gold", "reference"}


def path(text: str) -> LayerPath:
    """The inverse of `str(path)`."""
    return LayerPath(ACTIONS.index(letter) for letter in text)


def searched(question_id: str, margins: Mapping[str, float | None], *, task: str = "arc", **changes: Any) -> PathRecord:
    """A consistent record of a search of choices.

    Args:
        question_id: also makes its prompt, so that different ids are different questions.
        margins: path as text -> nats, the full path first; a path is right where its margin is above 0.
        task: its task.
        changes: fields of it, or of its question, that shall be otherwise.
    """
    question = Question(question_id, f"What is {question_id}?", ("yes", "no"), 1)
    evaluations = [
        Evaluation(path(text), margin is not None and margin > 0, margin, (0.0, margin or 0.0), None, simulation)
        for simulation, (text, margin) in enumerate(margins.items())
    ]
    base = evaluations[0]
    assert base.path.edits == 0
    assert base.margin is not None
    right = [evaluation for evaluation in evaluations if evaluation.correct]
    best = min(right or [base], key=lambda evaluation: (evaluation.path.depth, -(evaluation.margin or 0.0)))
    fields: dict[str, Any] = {
        "question": replace(question, **{name: changes.pop(name) for name in QUESTION_FIELDS & changes.keys()}),
        "question_sha": question.sha,
        "task": task,
        "status": "kept" if base.correct else "improved" if right else "unsolved",
        "num_layers": len(base.path),
        "seed": 7,
        "writer": "w-0",
        "attempts": 1,
        "created_ms": 1_700_000_000_000,
        "stop_reason": "budget",
        "base_correct": base.correct,
        "base_margin": base.margin,
        "best_path": best.path,
        "best_depth": best.path.depth,
        "best_margin": best.margin,
        "evaluations": evaluations,
        "simulations": len(evaluations) - 1,
        "layer_executions": sum(evaluation.path.depth for evaluation in evaluations),
        "layers_run": len(evaluations),
        "seconds": 1.0,
    }
    return PathRecord(**(fields | changes))


def failed(question_id: str, num_layers: int = 4) -> PathRecord:
    """A record of a question that could not be searched."""
    record = searched(question_id, {"." * num_layers: 0.0})
    nothing = ("stop_reason", "base_correct", "base_margin", "best_path", "best_depth", "best_margin", "simulations")
    for name in (*nothing, "layer_executions", "layers_run", "seconds"):
        setattr(record, name, None)
    record.status, record.error, record.evaluations = "failed", "NaN", []
    return record


def write_run(
    folder: Path | str,
    records: Sequence[PathRecord],
    *,
    task: str = "arc",
    model_id: str = "tiny",
    fingerprint: str = FINGERPRINT,
    chat: bool = False,
    dtype: str = "float32",
    bridges: str | None = None,
) -> str:
    """A run's folder with these records, ROWS_PER_SHARD to a shard; called again it adds to it.

    Returns:
        The folder, as commands take it.
    """
    run = RunDirectory(str(folder))
    run.create()
    settings = {
        "simulations": 3,
        "max_edits": 8,
        "cost": "layers",
        "dtype": dtype,
        "task": find_task(task).describe(chat),
        **({} if bridges is None else {"bridges": bridges}),
    }
    run.begin(RunInfo(settings, model_id, fingerprint, task, "hand-made", questions=len(records)), lambda: None)
    metadata = ShardMetadata(model_id, fingerprint, task, "0.1.0", "")
    taken = len(run.fs.ls(run.paths))
    for start in range(0, len(records), ROWS_PER_SHARD):
        rows = records[start : start + ROWS_PER_SHARD]
        write_shard(run.fs, run.paths, "w-0", taken + start // ROWS_PER_SHARD, rows, metadata, lambda: None)
    return run.out
