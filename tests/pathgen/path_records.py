"""Records for tests: a plain one, and hypothesis strategies of any."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pathgen.actions import LayerPath
from pathgen.provenance import ShardMetadata
from pathgen.records import Evaluation, PathRecord

METADATA = ShardMetadata("tiny", "f" * 16, "arc", "0.1.0", "")
NUM_LAYERS = 4


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
        "question_id": question_id,
        "question_sha": f"sha-{question_id}",
        "task": "arc",
        "prompt": "Why?",
        "choices": ("yes", "no"),
        "gold": 1,
        "reference": None,
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
    return PathRecord(**(fields | changes))


texts = st.text(st.characters(codec="utf-8"), max_size=12)
nats = st.floats(width=32, allow_nan=False)
paths = st.lists(st.integers(0, 2), min_size=1, max_size=40).map(LayerPath)
evaluations = st.builds(
    Evaluation,
    path=paths,
    correct=st.booleans(),
    margin=st.none() | nats,
    choice_scores=st.none() | st.lists(nats, max_size=5).map(tuple),
    answer=st.none() | texts,
    simulation=st.integers(-1, 2**31 - 1),
)
int64s = st.integers(-(2**63), 2**63 - 1)
any_records = st.builds(
    PathRecord,
    question_id=texts,
    question_sha=texts,
    task=texts,
    prompt=texts,
    choices=st.none() | st.lists(texts, max_size=4).map(tuple),
    gold=st.none() | st.integers(0, 25),
    reference=st.none() | texts,
    status=st.sampled_from(["improved", "kept", "unsolved", "failed", "searching"]),
    stop_reason=st.none() | st.sampled_from(["budget", "early", "exhausted", "interrupted"]),
    num_layers=st.integers(1, 2**15 - 1),
    base_correct=st.none() | st.booleans(),
    base_margin=st.none() | nats,
    best_path=st.none() | paths,
    best_depth=st.none() | st.integers(0, 2**15 - 1),
    best_margin=st.none() | nats,
    evaluations=st.lists(evaluations, max_size=4),
    simulations=st.none() | st.integers(0, 2**31 - 1),
    layer_executions=st.none() | int64s,
    layers_run=st.none() | int64s,
    seconds=st.none() | nats,
    seed=int64s,
    writer=texts,
    attempts=st.integers(0, 127),
    created_ms=int64s,
    error=st.none() | texts,
)
