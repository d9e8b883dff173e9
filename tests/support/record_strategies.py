"""Hypothesis strategies of any record that a shard can hold."""

from __future__ import annotations

from hypothesis import strategies as st

from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import Evaluation, PathRecord
from pathgen.questions.question import Question

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
    cut=st.booleans(),
)
int64s = st.integers(-(2**63), 2**63 - 1)
questions = st.builds(
    Question,
    id=texts,
    prompt=texts,
    choices=st.none() | st.lists(texts, max_size=4).map(tuple),
    gold=st.none() | st.integers(0, 25),
    reference=st.none() | texts,
)
any_records = st.builds(
    PathRecord,
    question=questions,
    question_sha=texts,
    task=texts,
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
    influence=st.none() | st.lists(nats, max_size=5).map(tuple),
)
