"""Run folders as a search of a tiny model would leave them, made without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from path_records import make_record, no_guard
from tiny_checkpoint import NUM_LAYERS

from pathgen.evaluation.evaluator import Evaluator
from pathgen.models.facts import fingerprint
from pathgen.paths.layer_path import LayerPath, all_moves
from pathgen.paths.records import Evaluation
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.store.provenance import ShardMetadata
from pathgen.store.run_folder import RunDirectory
from pathgen.store.run_json import RunInfo
from pathgen.store.shards import write_shard

FULL = LayerPath.full(NUM_LAYERS)
SINGLE_EDITS = [move.apply(FULL) for move in all_moves(NUM_LAYERS)]


def choice_questions(count: int) -> list[Question]:
    """Short questions of two to four choices."""
    words = ["cork", "lead", "iron", "snow", "salt", "sand"]
    return [
        Question(f"q{i}", f"Which of {i} floats?", tuple(words[j % 6] for j in range(i, i + 2 + i % 3)), i % 2)
        for i in range(count)
    ]


def write_run(
    out: Path,
    model: Path,
    evaluator: Evaluator,
    questions: Sequence[Question],
    *,
    paths: Sequence[LayerPath] = SINGLE_EDITS,
    model_print: str | None = None,
) -> str:
    """A run's folder in which the full path and these have been evaluated on every question."""
    print_ = model_print or fingerprint(model)
    task = evaluator.task.name
    dtype = str(evaluator.model.hf_model.dtype).removeprefix("torch.")
    settings = {"max_edits": 8, "dtype": dtype, "task": find_task(task).describe(evaluator.chat)}
    run = RunDirectory(str(out))
    run.create()
    run.begin(RunInfo(settings, str(model), print_, task, "made here", questions=len(questions)), no_guard)
    records = []
    for question in questions:
        prepared = evaluator.prepare(question)
        found = evaluator.evaluate([(prepared, path) for path in (FULL, *paths)])
        evaluations: list[Evaluation] = [replace(e, simulation=i) for i, e in enumerate(found)]
        records.append(
            make_record(
                question.id,
                task=task,
                question=question,
                question_sha=question.sha,
                num_layers=NUM_LAYERS,
                base_correct=evaluations[0].correct,
                base_margin=evaluations[0].margin,
                best_path=FULL,
                best_depth=NUM_LAYERS,
                evaluations=evaluations,
            )
        )
    records.append(make_record("failed", status="failed", num_layers=NUM_LAYERS))
    write_shard(run.fs, run.paths, "w-0", 0, records, ShardMetadata(str(model), print_, task, "0.1.0", ""), no_guard)
    return str(out)
