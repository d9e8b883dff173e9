"""The searcher: jobs in, records out, on a tiny model and without Ray."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pathgen.actors.model_spec import ModelSpec
from pathgen.engine.path_model import PathModel
from pathgen.evaluation.evaluator import Evaluator
from pathgen.generate.jobs import Job, RunSettings
from pathgen.generate.options import GenerateOptions
from pathgen.generate.searcher import Searcher
from pathgen.paths.cost import CostModel
from pathgen.paths.layer_path import LayerPath
from pathgen.paths.records import PathRecord, seeded_hash
from pathgen.questions.loading import load_questions
from pathgen.questions.question import Question
from pathgen.questions.tasks import find_task
from pathgen.search.settings import SearchSettings
from pathgen.store.provenance import ShardMetadata

LAYERS = 6
QUESTIONS = load_questions("builtin", needs="choices", limit=5)
RUN = RunSettings(
    out="unused",
    token="t",
    metadata=ShardMetadata("tiny", "f", "arc", "0.1.0", ""),
    model=ModelSpec("tiny", "f", dtype="float32", device="cpu"),
    options=GenerateOptions(out="unused", search=SearchSettings(simulations=8, parallel_leaves=3), seed=3),
    cost=CostModel.layers(LAYERS),
    in_flight=2,
)


@pytest.fixture
def model(tiny_model) -> PathModel:
    return PathModel.from_pretrained(str(tiny_model))


def searcher(model: PathModel, run: RunSettings = RUN, stored: PathRecord | None = None) -> Searcher:
    return Searcher(run, "w-1", Evaluator(model, find_task("arc")), lambda files, question_id: stored)


def drive(one: Searcher) -> dict[str, PathRecord]:
    """Step until all has ended."""
    found: dict[str, PathRecord] = {}
    while one.held:
        found.update({record.question.id: record for record in one.step()})
    return found


def test_records_and_counters_agree(model):
    one = searcher(model)
    for question in QUESTIONS:
        one.take_up(Job(question, attempts=1))
    found = drive(one)
    assert found.keys() == {question.id for question in QUESTIONS}
    for record in found.values():
        assert record.status in ("improved", "kept", "unsolved")
        assert (record.stop_reason, record.simulations, record.attempts, record.writer) == ("budget", 8, 2, "w-1")
        assert record.seed == seeded_hash(3, record.question.id)
        assert record.evaluations[0].path == LayerPath.full(LAYERS)
        assert record.best_depth == record.best_path.depth
    counters = one.counters
    assert (counters["searched"], counters["continued"], counters["failed"]) == (5, 0, 0)
    for name in ("simulations", "layer_executions", "layers_run"):
        assert counters[name] == sum(getattr(record, name) for record in found.values())
    solved = [record for record in found.values() if record.status != "unsolved"]
    assert counters["solved"] == len(solved)
    assert counters["layers_saved"] == sum(record.num_layers - record.best_depth for record in solved)
    assert (one.moved_at, one.under_way()) == ({}, [])


def test_a_search_goes_on_from_its_record(model):
    job = Job(QUESTIONS[0])
    whole = searcher(model)
    whole.take_up(job)
    (wanted,) = drive(whole).values()
    before = searcher(model)
    before.take_up(job)
    before.step()
    before.step()
    (halfway,) = before.under_way()
    assert halfway.status == "searching"
    after = searcher(model, stored=halfway)
    after.take_up(replace(job, resume=(".progress/w-0.parquet",)))
    (record,) = drive(after).values()
    assert [e.path for e in record.evaluations] == [e.path for e in wanted.evaluations]
    assert after.counters["continued"] == 1
    for name in ("simulations", "layer_executions"):
        assert before.counters[name] + after.counters[name] == whole.counters[name]


def test_questions_in_flight_are_of_like_length(model):
    texts = {"short": "Why?", "long": "Why " * 60, "brief": "Who?", "wordy": "Who " * 60}
    one = searcher(model)
    for name, text in texts.items():
        one.take_up(Job(Question(name, text, ("yes", "no"), 0)))
    one.step()
    assert set(one.moved_at) == {"short", "brief"}


def test_a_question_that_cannot_be_asked_fails_alone(model):
    one = searcher(model)
    one.take_up(Job(Question("long", "x" * 600, ("a", "b"), 0)))
    one.take_up(Job(QUESTIONS[0]))
    found = drive(one)
    assert found["long"].status == "failed"
    assert "context is 512" in found["long"].error
    assert found["long"].evaluations == []
    assert found[QUESTIONS[0].id].status != "failed"
    assert (one.counters["failed"], one.counters["searched"]) == (1, 1)


def test_nan_at_full_depth_is_a_failed_record(model):
    with torch.no_grad():
        model.hf_model.get_input_embeddings().weight.fill_(float("nan"))
    one = searcher(model)
    one.take_up(Job(QUESTIONS[0]))
    (record,) = drive(one).values()
    assert (record.status, record.error) == ("failed", "the model gives NaN or Inf at full depth")
