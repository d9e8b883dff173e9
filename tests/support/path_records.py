"""Plain records for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.questions.question import Question
from pathgen.store.provenance import ShardMetadata
from pathgen.store.schema import to_table

METADATA = ShardMetadata("tiny", "f" * 16, "arc", "0.1.0", "")
NUM_LAYERS = 4
QUESTION_FIELDS = {"prompt", "choices", "gold", "reference"}


def no_guard() -> None:
    """The lease is held."""


def make_record(question_id: str, simulations: int = 3, status: str = "kept", **changes) -> PathRecord:
    """A record with one evaluation a simulation, all different paths."""
    paths = [LayerPath.full(NUM_LAYERS)]
    for i in range(simulations):
        layer, action = i % NUM_LAYERS, 2 * (i // NUM_LAYERS % 2)
        paths.append(LayerPath(action if other == layer else 1 for other in range(NUM_LAYERS)))
    failed = status == "failed"
    fields: dict[str, Any] = {
        "question": Question(question_id, "Why?", ("yes", "no"), 1),
        "question_sha": f"sha-{question_id}",
        "task": "arc",
        "status": status,
        "num_layers": NUM_LAYERS,
        "seed": 7,
        "writer": "w-0",
        "attempts": 1,
        "created_ms": 1_700_000_000_000,
        "error": "NaN" if failed else None,
    }
    if not failed:
        fields |= {
            "stop_reason": None if status == "searching" else "budget",
            "base_correct": True,
            "base_margin": 0.5,
            "best_path": paths[-1],
            "best_depth": paths[-1].depth,
            "best_margin": 1.5,
            "evaluations": [Evaluation(path, True, 0.5, (0.5, 1.0), None, i) for i, path in enumerate(paths)],
            "simulations": simulations,
            "layer_executions": sum(path.depth for path in paths),
            "layers_run": simulations,
            "seconds": 1.0,
        }
    asked = {name: changes.pop(name) for name in QUESTION_FIELDS & changes.keys()}
    fields["question"] = replace(fields["question"], **asked)
    return PathRecord(**(fields | changes))


def frame(records: list[PathRecord]) -> pl.DataFrame:
    """Records as the rows that a run's readers get."""
    return pl.DataFrame(pl.from_arrow(to_table(records)))
